"""The open time-evolving liquidation heatmap.

Candles and open interest in; position events, a book ledger and liquidation snapshots by day in DuckDB; a heatmap page
out. Importing this package is cheap: nothing heavy is loaded before it is used.
"""

import sys

__version__ = "0.1.0"

if sys.platform == "win32":  # before anything is imported that is not there
    raise SystemExit("heatmap: Windows is not supported, only Linux and macOS; use WSL 2 or a Linux container")
