"""Market data: bytes in, clean tables out.

Archive files, the demo market that writes such files, the repairs, the clock of the open interest, and the flow of
contracts. Nothing here knows the model, the database or Dagster.
"""
