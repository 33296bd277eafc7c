"""A heatmap to look at, as arrays: windows, bins, replay, clusters. No HTTP, no bytes, no Dagster."""
