"""A heatmap to look at, as arrays: windows, bins, replay, zones. No HTTP, no bytes, no Dagster."""
