"""Which tests go to the same worker of pytest-xdist: those of a file, which share homes, and some files together.

Not by xdist's marks: its `loadgroup` does not group anything under pytest 9.2 (issue 1386 of pytest-xdist), without a
word, and every worker then makes everything.
"""

from __future__ import annotations

from typing import Any

import pytest
from xdist.scheduler import LoadFileScheduling

TOGETHER = {
    "test_alerts_page.py": "test_real_market.py",
    "test_real_score.py": "test_real_market.py",
    "test_real_tables.py": "test_real_market.py",
    "store/test_disk_full.py": "orchestration/test_crash.py",
    "test_bad_input.py": "orchestration/test_crash.py",
    **{
        f"orchestration/{name}.py": "orchestration/test_crash.py"
        for name in ("test_backup_command", "test_ends", "test_told", "test_two_schedulers")
    },
    **{f"render/{name}.py": "render/test_moments.py" for name in ("test_accessibility", "test_live_page")},
    **{
        f"render/{name}.py": "render/test_page_in_browser.py"
        for name in (
            "test_agreement",
            "test_base_on_page",
            "test_leverage",
            "test_marks",
            "test_overview",
            "test_page_controls",
            "test_page_looks",
            "test_reported_on_page",
            "test_score_panel",
            "test_units_on_page",
        )
    },
}
"""Files that share what takes long, by the one whose name the group has: real sets, the process that forks commands,
Chromium. Starting that takes 0.2 s only, so there are two groups: half of their time is waiting for it."""

LONGEST = (
    "render/test_page_in_browser.py",
    "render/test_moments.py",
    "test_real_market.py",
    "orchestration/test_crash.py",
    "orchestration/ui/test_in_use.py",
    "fleet/test_queue.py",
    "orchestration/test_recovery.py",
    "orchestration/test_chain.py",
    "chain/test_kept_cells.py",
    "fleet/test_killed.py",
    "fleet/test_worker.py",
    "fleet/test_pull.py",
    "fleet/test_shard_job.py",
    "test_cli.py",
    "test_run_command.py",
    "orchestration/test_runs.py",
    "test_two_exchanges.py",
    "chain/test_unchanged.py",
    "store/test_spare.py",
    "store/test_split.py",
    "orchestration/test_liquidations.py",
    "orchestration/test_days_not_had.py",
    "orchestration/test_clock_jumps.py",
    "orchestration/test_other_markets.py",
    "api/test_contract.py",
    "api/test_hostile.py",
)
"""Groups that take longest, which begin, so that in the end no worker is left alone with one of them."""

_ROOT = "heatmap_pipeline_tests/"


def group_of(nodeid: str) -> str:
    """Return what names the tests that go to the same worker as this one."""
    file = nodeid.partition("::")[0].removeprefix(_ROOT)
    return TOGETHER.get(file, file)


def place_of(nodeid: str) -> int:
    """Return how early the group of a test begins: the longest first, the others after them."""
    group = group_of(nodeid)
    return LONGEST.index(group) if group in LONGEST else len(LONGEST)


class ByFile(LoadFileScheduling):  # type: ignore[misc]  # xdist has no types
    """Hands out the groups in the order of the collection."""

    def __init__(self, config: pytest.Config, log: Any) -> None:
        config.option.loadscopereorder = False  # or the groups of most tests came first, however short these are
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)
