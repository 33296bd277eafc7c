"""What the endpoint answers when it cannot answer: a status and a sentence."""

from __future__ import annotations

from collections.abc import Mapping

from heatmap_pipeline.errors import HeatmapError
from heatmap_pipeline.views.errors import Kind

STATUS: Mapping[Kind, int] = {"not_found": 404, "invalid": 422, "too_large": 413}
"""HTTP status of each kind of refusal that a view knows."""


class ApiError(HeatmapError):
    """A request that gets no data for a reason of the endpoint's own; the sentence says what to do.

    Attributes:
        status: HTTP status.
        headers: more headers of the answer.
    """

    def __init__(self, status: int, sentence: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(sentence)
        self.status = status
        self.headers = dict(headers or {})
