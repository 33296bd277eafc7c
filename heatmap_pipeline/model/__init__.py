"""The science: candles and flows in, books, events, ledgers and cells out.

No Dagster, no DuckDB, no files: numbers in, numbers out. What is computed is written down in docs/model.md.
"""
