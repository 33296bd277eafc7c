"""Everything Dagster, and the running of the chain day by day.

Assets here read, call, write and describe; what is computed is in `model`, what is cleaned in `market`, what is stored
in `store`, what is drawn in `render`.
"""
