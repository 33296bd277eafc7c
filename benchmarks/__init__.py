"""How fast and how large the pipeline is: `python -m benchmarks` prints it as a table (docs/benchmarks.md)."""
