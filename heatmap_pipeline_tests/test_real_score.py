"""The published score: docs/score.md, the file that is shipped, and `heatmap score` on real files say the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from heatmap_pipeline.views.score import reference_score
from heatmap_pipeline_tests._homes import clean_environment, done
from heatmap_pipeline_tests._real_sets import BTC, ETH, RealRuns, score_once

SIDES = [(symbol, side) for symbol in (BTC, ETH) for side in ("long", "short")]
DOCS = Path(__file__).parents[1] / "docs" / "score.md"

Rows = dict[tuple[str, ...], dict[str, Any]]


def rows_of(score: dict[str, Any], window: str = "all") -> Rows:
    return {(row["side"], row["horizon"], row["measure"], row["baseline"]): row for row in score["windows"][window]}


def number(value: float) -> str:
    return f"{value:.3f}".replace("0.", ".", 1)


def own(row: dict[str, Any], digits: Callable[[float], str] = number) -> str:
    return f"{digits(row['value'])} [{digits(row['low'])}, {digits(row['high'])}]"


def above(row: dict[str, Any]) -> str:
    values = (row["difference"], row["difference_low"], row["difference_high"])
    first, low, high = (f"{value:+.3f}".replace("0.", ".", 1) for value in values)
    return f"{first} [{low}, {high}]"


def plain(value: float) -> str:
    return f"{value:.2f}"


TABLE: list[tuple[str, tuple[str, str, str], Callable[..., str]]] = [
    ("**nowcast**: agreement", ("nowcast", "spearman", ""), own),
    ("map − move × volume", ("nowcast", "spearman", "move x volume"), above),
    ("map − volume-only map", ("nowcast", "spearman", "volume-only map"), above),
    ("given move, range and volume", ("nowcast", "partial", ""), own),
    ("**at start**: agreement", ("at_start", "spearman", ""), own),
    ("map − move × volume", ("at_start", "spearman", "move x volume"), above),
    ("map − move", ("at_start", "spearman", "move"), above),
    ("map − new extreme", ("at_start", "spearman", "new extreme"), above),
    ("map − volume-only map", ("at_start", "spearman", "volume-only map"), above),
    ("brightest tenth, lift", ("at_start", "lift", ""), lambda row: own(row, plain)),
    ("**level**: predicted / reported", ("nowcast", "level", ""), lambda row: own(row, plain)),
]


def documented(scores: list[dict[str, Any]]) -> list[str]:
    """Return the lines of the table in docs/score.md."""
    tables = {score["symbol"]: rows_of(score) for score in scores}
    lines = ["| | " + " | ".join(f"{symbol} {side}" for symbol, side in SIDES) + " |", "|---" * 5 + "|"]
    for label, key, text in TABLE:
        lines.append(f"| {label} | " + " | ".join(text(tables[symbol][side, *key]) for symbol, side in SIDES) + " |")
    return lines


def test_the_table_of_the_documentation_is_the_shipped_score() -> None:
    assert "\n".join(documented(reference_score()["scores"])) in DOCS.read_text()


@pytest.fixture(scope="module")
def scores(market_dir: Path, run_of: RealRuns) -> dict[tuple[str, str], dict[str, Any]]:
    """The scores of set A by symbol and model: the command of docs/score.md, on files rather than on what is stored."""
    folder = market_dir / "liquidations"
    with pytest.MonkeyPatch.context() as patch:
        clean_environment(patch)
        score_once(patch)
        out = done("score", BTC, ETH, "--liquidations", folder, "--json", "--home", run_of("A").home).stdout
    return {(score["symbol"], score["model"]): score for score in json.loads(out)["scores"]}


@pytest.mark.market
@pytest.mark.slow
class TestRealFiles:
    """What must hold on the real files, through the product."""

    def test_they_give_the_shipped_score(self, scores: dict[tuple[str, str], dict[str, Any]]) -> None:
        for shipped in reference_score()["scores"]:
            mine = scores[shipped["symbol"], shipped["model"]]
            assert mine["days"] == shipped["days"]
            assert mine["source"] == shipped["source"]
            expected = rows_of(shipped)
            found = rows_of(mine)
            assert found.keys() == expected.keys()
            for key, row in expected.items():
                for name, value in row.items():
                    assert found[key][name] == (pytest.approx(value, abs=2e-6) if isinstance(value, float) else value)

    @pytest.mark.parametrize(("symbol", "least"), [(BTC, (0.870, 0.850)), (ETH, (0.848, 0.822))])
    def test_it_is_as_good_as_it_was_when_it_was_made(
        self, scores: dict[tuple[str, str], dict[str, Any]], symbol: str, least: tuple[float, float]
    ) -> None:
        rows = rows_of(scores[symbol, "turnover"])
        for side, floor in zip(("long", "short"), least, strict=True):
            assert rows[side, "nowcast", "spearman", ""]["value"] >= floor
            assert rows[side, "nowcast", "spearman", ""]["hours"] == 840
            assert rows[side, "nowcast", "spearman", "move x volume"]["difference_low"] > 0
            assert 1.0 <= rows[side, "nowcast", "level", ""]["value"] <= 3.5
            assert abs(rows[side, "nowcast", "spearman", "volume-only map"]["difference"]) < 0.01

    def test_the_classic_rule_loses_to_move_x_volume(self, scores: dict[tuple[str, str], dict[str, Any]]) -> None:
        values = []
        for symbol, side in SIDES:
            rows = rows_of(scores[symbol, "delta"])
            assert rows[side, "nowcast", "spearman", "move x volume"]["difference_high"] < 0
            values.append(number(rows[side, "nowcast", "spearman", ""]["value"]))
        assert "{} / {} (BTCUSDT) and {} / {} (ETHUSDT)".format(*values) in DOCS.read_text()
