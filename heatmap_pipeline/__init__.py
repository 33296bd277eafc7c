"""The open time-evolving liquidation heatmap.

Candles and open interest in; position events, a book ledger and liquidation snapshots by day in DuckDB; a heatmap page
out. Importing this package is cheap: nothing heavy is loaded before it is used.
"""

__version__ = "0.1.0"
