"""What the endpoint answers when it cannot answer: a status and a sentence."""

from __future__ import annotations

from collections.abc import Mapping

from heatmap_pipeline.errors import HeatmapError


class ApiError(HeatmapError):
    """A request that gets no data; the sentence names the parameter and what is allowed.

    Attributes:
        status: HTTP status.
        headers: more headers of the answer.
    """

    def __init__(self, status: int, sentence: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(sentence)
        self.status = status
        self.headers = dict(headers or {})
