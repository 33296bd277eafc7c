"""docs/alerts.md as it has to be: what its own rules tell on the day it shows, and what a webhook is sent of it.

`python -m heatmap_pipeline_tests.alerts_page HOME` writes it, from a home that `heatmap run` has made of real set A.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

from heatmap_pipeline.alert_rules import Rule, read_rules
from heatmap_pipeline.chain.alerts import watch_symbol
from heatmap_pipeline.instants import iso
from heatmap_pipeline.orchestration.alerts import notice_of
from heatmap_pipeline.store import alerts as stored
from heatmap_pipeline.store.alerts import StoredAlert
from heatmap_pipeline.store.warehouse import Warehouse

PAGE = Path(__file__).parents[1] / "docs" / "alerts.md"
SYMBOL, FIRST, SHOWN = "BTCUSDT", date(2024, 6, 19), date(2024, 7, 4)

_LINES = re.compile(r"(?<=```text\n).*?(?=```)", re.DOTALL)
_BODY = re.compile(r"(?<=```json\n).*?(?=```)", re.DOTALL)


def rules_of(page: str, folder: Path) -> tuple[Rule, ...]:
    """Return the rules that the page prints, read as a file of them is."""
    (block,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    file = folder / "alerts.toml"
    file.write_text(block, "utf-8")
    return read_rules(file)


def told_of_the_day(home: Path, folder: Path, rules: Sequence[Rule]) -> list[StoredAlert]:
    """Return what rules tell of the day that the page shows, oldest first.

    They are shown a home's history from its first day, as after a run of each, in a copy of it in a folder.
    """
    shutil.copytree(home / "warehouse", folder / "warehouse")
    warehouse = Warehouse(folder)
    told: list[StoredAlert] = []
    for number in range((SHOWN - FIRST).days + 1):
        midnight = datetime.combine(FIRST + timedelta(days=number + 1), datetime.min.time(), UTC)
        end = int(midnight.timestamp()) * 1_000_000
        with patch.object(stored, "newest_end", lambda *_, end=end: end):
            told = watch_symbol(partial(warehouse.connect, SYMBOL), SYMBOL, ("turnover", "delta"), rules)
    return [alert for alert in told if iso(alert.at)[:10] == f"{SHOWN}"]


def lines_of(told: Sequence[StoredAlert]) -> str:
    """Return alerts as the page lists them."""
    return "".join(f"{iso(alert.at)}  {alert.kind:<8}  {alert.words}\n" for alert in told)


def body_of(told: Sequence[StoredAlert]) -> str:
    """Return what a webhook is sent of the first zone that appears, a field a line."""
    alert = next(alert for alert in told if alert.kind == "appears")
    fields = notice_of(alert).body().items()
    return "{\n" + ",\n".join(f" {json.dumps(name)}: {json.dumps(value)}" for name, value in fields) + "\n}\n"


def shown_lines(page: str) -> str:
    """Return the alerts that the page lists."""
    (lines,) = _LINES.findall(page)
    return str(lines)


def shown_body(page: str) -> str:
    """Return the body that the page prints."""
    (body,) = _BODY.findall(page)
    return str(body)


if __name__ == "__main__":
    written = PAGE.read_text("utf-8")
    with TemporaryDirectory() as place:
        shown = told_of_the_day(Path(sys.argv[1]), Path(place), rules_of(written, Path(place)))
    written = _LINES.sub(lambda _: lines_of(shown), written)
    PAGE.write_text(_BODY.sub(lambda _: body_of(shown), written), "utf-8")
