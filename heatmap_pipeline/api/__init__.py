"""The read endpoint over the published database: HTTP in, bytes out. Numbers come from `model`, rows from `store`."""
