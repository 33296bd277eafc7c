"""For programs of others: the heatmap of a published file or of an endpoint, as arrays and frames.

Example:
    >>> from heatmap_pipeline.client import Heatmap
    >>> Heatmap("http://127.0.0.1:8888")
    Heatmap('http://127.0.0.1:8888')
"""

from heatmap_pipeline.client.answers import BookMap, Market, Part, Provenance, Score, Series, Zone, Zones
from heatmap_pipeline.client.errors import ClientError
from heatmap_pipeline.client.heatmap import Heatmap

__all__ = ["BookMap", "ClientError", "Heatmap", "Market", "Part", "Provenance", "Score", "Series", "Zone", "Zones"]
