"""Pictures for people: the density map as a PNG and as a page that opens from disk.

Arrays in, files out. No SQL, no Dagster, no model rules; the heavy libraries are imported where they are used.
"""
