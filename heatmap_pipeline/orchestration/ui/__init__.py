"""The Dagster UI of a home as one program: its processes, kept together, and the guard in front of it."""
