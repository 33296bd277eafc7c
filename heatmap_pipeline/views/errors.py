"""What a view answers when it cannot answer: the kind of refusal, and a sentence."""

from __future__ import annotations

from typing import Literal, TypeAlias

from heatmap_pipeline.errors import HeatmapError

Kind: TypeAlias = Literal["not_found", "invalid", "too_large"]
"""Nothing there is of what was asked for; something cannot be asked for so; the answer would be too large."""


class ViewError(HeatmapError):
    """A view that cannot be made; the sentence names what was asked for and what is allowed.

    Attributes:
        kind: what is the matter.
    """

    def __init__(self, kind: Kind, sentence: str) -> None:
        super().__init__(sentence)
        self.kind: Kind = kind
