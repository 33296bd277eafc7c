"""Liquidations that really happened: bytes in, clean rows out, and beside them what was recorded at all.

`tables.py` is the shape that every source delivers; the others are a source each: `archive.py` (the exchange's files),
`plain.py` (anybody's CSV and Parquet), `gate.py` and `bitget.py` (REST), `streams.py`, `recorder.py` and `recording.py`
(websocket streams, written down as they come). `sources.py` finds them by name.
"""
