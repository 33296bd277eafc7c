"""What a store's manifest of a symbol may say: what this program writes, and nothing that only looks like it."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from typing import Any

import pytest

from heatmap_pipeline.store.manifest import Days, Manifest, ManifestError, Part, manifest_path, understood

PLACE = f"file:///store/{manifest_path('BTCUSDT')}"
WRITTEN = Manifest(
    program="1",
    symbol="BTCUSDT",
    committed=datetime(2026, 11, 27, tzinfo=UTC),
    days={"delta": Days(first=date(2026, 11, 1), last=date(2026, 11, 2), count=2)},
    fingerprints={"2026-11": "a hash"},
    parts=(Part(table="heatmap_days", month="2026-11", hash="0" * 64, rows=2, bytes=700),),
)


def test_what_was_written_is_understood() -> None:
    assert understood(WRITTEN.written(), PLACE) == WRITTEN


def test_what_was_written_before_parts_left_anything_out_is_understood_and_stays_so() -> None:
    assert json.loads(WRITTEN.written())["format"] == 2
    earlier = WRITTEN.model_copy(update={"format": 1}).written()
    assert understood(earlier, PLACE).written() == earlier


@pytest.mark.parametrize("number", [json.dumps("700"), "700.0", "true", "-1", "0", "1e999"])
@pytest.mark.parametrize("name", ["rows", "bytes"])
def test_a_number_that_no_program_of_ours_wrote_is_none(name: str, number: str) -> None:
    said: dict[str, Any] = json.loads(WRITTEN.written())
    said["parts"][0][name] = "HERE"
    content = json.dumps(said).replace('"HERE"', number).encode()
    with pytest.raises(ManifestError, match=r"BTCUSDT\.json is not as it was written"):
        understood(content, PLACE)
