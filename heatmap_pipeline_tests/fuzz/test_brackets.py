"""Damaged files of leverage brackets: refused by name, or every bracket is the one that the text says.

More inputs: see `_harness.py`.
"""

from __future__ import annotations

import json
import os
from itertools import count
from pathlib import Path
from typing import Any

from hypothesis import given, note
from hypothesis import strategies as st

from heatmap_pipeline.errors import HeatmapError
from heatmap_pipeline.market.brackets import load_bracket
from heatmap_pipeline_tests.fuzz._harness import Tally, budget, outcome
from heatmap_pipeline_tests.fuzz._mutate_csv import byte_steps, mutate_bytes
from heatmap_pipeline_tests.fuzz._mutate_json import json_steps, mutate_json
from heatmap_pipeline_tests.fuzz._oracle import brackets_said
from heatmap_pipeline_tests.fuzz._seeds import Seed


def test_brackets(seeds: list[Seed], tmp_path: Path, tally: Tally, record_property: Any, request: Any) -> None:
    file = tmp_path / "brackets.json"
    versions = count(1)

    @budget()
    @given(st.integers(0, len(seeds) - 1), json_steps(), byte_steps(1))
    def case(at: int, steps: Any, cuts: Any) -> None:
        seed = seeds[at]
        data = mutate_bytes(mutate_json(json.loads(seed.brackets), steps), cuts)
        file.write_bytes(data)
        os.utime(file, ns=(0, next(versions) * 1_000_000))
        note(f"{seed.symbol} {data!r}")
        found, problems = brackets_said(data)
        names = {seed.symbol, "SOLUSDT", "XRPUSDT", "ETHUSDT", *found}
        loaded = outcome(lambda: {name: load_bracket(file, name, seed.day) for name in names})
        if isinstance(loaded, HeatmapError):
            tally.refused(loaded, str(file))
            assert problems, f"refused for no reason: {loaded}"
            return
        assert not problems, f"accepted {problems[:3]}"
        assert loaded == {name: found.get(name) for name in names}
        tally.read({}, {})

    case()
    tally.check(record_property, request.node.name, refused=20, accepted=10)
