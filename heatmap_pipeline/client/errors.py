"""What the client raises: one kind of error, with the words of who refused."""

from __future__ import annotations

from heatmap_pipeline.errors import HeatmapError


class ClientError(HeatmapError):
    """A question that cannot be answered; the sentence says what is wrong and what there is.

    Attributes:
        status: of HTTP, as the endpoint answers (404 nothing there, 413 too much, 422 wrong), for a file too; None
            where nobody answered.
    """

    def __init__(self, sentence: str, status: int | None = None) -> None:
        super().__init__(sentence)
        self.status = status
