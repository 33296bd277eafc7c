"""Which tests go to the same worker of pytest-xdist: those of a file, which share homes, and some files together.

Not by xdist's marks: its `loadgroup` does not group anything under pytest 9.2 (issue 1386 of pytest-xdist), without a
word, and every worker then makes everything.
"""

from __future__ import annotations

from typing import Any

import pytest
from xdist.scheduler import LoadFileScheduling

TOGETHER = {
    "heatmap_pipeline_tests/test_real_score.py": "heatmap_pipeline_tests/test_real_market.py",
}
"""Files that share what takes longest."""


def group_of(nodeid: str) -> str:
    """Return what names the tests that go to the same worker as this one."""
    file = nodeid.partition("::")[0]
    return TOGETHER.get(file, file)


class ByFile(LoadFileScheduling):
    """Hands out the groups in the order of the collection, which begins with the slow ones."""

    def __init__(self, config: pytest.Config, log: Any) -> None:
        config.option.loadscopereorder = False  # or the groups of most tests came first, however short these are
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)
