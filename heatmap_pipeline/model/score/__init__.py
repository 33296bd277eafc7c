"""How true a map is: what it predicted, held against liquidations that really happened (docs/score.md).

`hours` brings events, records and candles to hours; `ranks` and `lift` are the measures, `baselines` the simple rules
that a map has to beat; `table` puts them together. Pure functions over arrays; nobody else's files or tables.
"""
