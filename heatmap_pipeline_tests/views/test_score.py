"""The words of a score, its shape, and the reference score that is shipped."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from heatmap_pipeline.model.score.table import ScoreRow
from heatmap_pipeline.settings import Settings
from heatmap_pipeline.store.sql import Connection
from heatmap_pipeline.store.warehouse import Warehouse
from heatmap_pipeline.views.errors import ViewError
from heatmap_pipeline.views.score import reference_score, score_body, score_record, verdict, words_if_short
from heatmap_pipeline_tests.chain.scored import LAST, keep, score_home, write_reports

BTC = "BTCUSDT"
NAN = float("nan")


def row(measure: str = "spearman", baseline: str = "move", value: float = 0.5, **more: float) -> ScoreRow:
    numbers = {"low": NAN, "high": NAN, "difference": NAN, "difference_low": NAN, "difference_high": NAN, **more}
    return ScoreRow("28d", "long", "nowcast", measure, baseline, value, **numbers, hours=9)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (row(difference_low=0.01, difference_high=0.1), "we beat it"),
        (row(difference_low=-0.1, difference_high=-0.01), "beats us"),
        (row(difference_low=-0.1, difference_high=0.1), "tie"),
        (row(difference_low=0.0, difference_high=0.1), "tie"),
        (row(difference_low=-0.1, difference_high=0.0), "tie"),
        (row(), ""),
        (row(difference_low=0.1), ""),
        (row("spearman", "", 0.8, low=0.7, high=0.9, difference_low=0.1, difference_high=0.2), ""),
        (row("level", "", 0.49), "outside 0.5 to 5"),
        (row("level", "", 0.5), "within 0.5 to 5"),
        (row("level", "", 5.01), "outside 0.5 to 5"),
        (row("lift", "", 1.5, low=1.1, high=2.0), "above chance"),
        (row("lift", "", 1.5, low=0.9, high=2.0), "not told from chance"),
        (row("lift", "", 0.7, low=0.5, high=0.9), "below chance"),
        (row("lift", "shuffled", 1.0, low=1.1, high=1.2), ""),
        (row("partial", "", 0.1, low=-0.1, high=0.3), "knows no more than the hour"),
        (row("partial", "", 0.2, low=0.1, high=0.3), "knows more than the hour"),
        (row("partial", "", -0.2, low=-0.3, high=-0.1), "misleads"),
    ],
)
def test_what_beats_the_map_is_said_as_plainly_as_what_it_beats(given: ScoreRow, words: str) -> None:
    assert verdict(given) == words


def counts(side: str, hours: float, days: float) -> list[ScoreRow]:
    rest = (NAN,) * 5
    return [
        ScoreRow("28d", side, "", measure, "", value, *rest, 0)
        for measure, value in (("hours_with_reports", hours), ("days", days))
    ]


def test_what_is_missing_is_said_by_side_where_the_sides_differ() -> None:
    assert words_if_short(counts("long", 57, 20) + counts("short", 57, 20)) == "not enough yet: 57 of 200 hours"
    assert words_if_short(counts("long", 257, 20) + counts("short", 57, 20)) == "shorts not enough yet: 57 of 200 hours"
    assert words_if_short(counts("long", 257, 20) + counts("short", 257, 20)) == ""


def test_a_score_says_what_its_trailing_window_lacks() -> None:
    """Whether the other window, which is longer, has enough or not; what is undefined is None."""
    parameters = {"exchange": "binance", "own_exchange": True, "complete": True, "windows": {}, "as_of": "then"}
    whose = "held against the liquidations of BTCUSDT on its own exchange, binance; a complete record"
    enough, short = ([replace(each, window="all") for each in counts("long", hours, 20)] for hours in (257, 57))
    cases = [
        (counts("long", 57, 20) + enough, f"{whose}; not enough yet: 57 of 200 hours", False),
        (counts("long", 57, 20) + short + [row()], f"{whose}; not enough yet: 57 of 200 hours", True),
        (counts("long", 257, 20) + enough + [row()], whose, True),
        (counts("long", 257, 20) + short, whose, False),
    ]
    for rows, words, scored in cases:
        body = score_body(BTC, "turnover", "binance_file", rows, parameters)
        assert (body["words"], body["scored"]) == (words, scored)
        assert [body["windows"]["28d"][0][name] for name in ("side", "value", "low")] == ["long", rows[0].value, None]
        assert [len(body["windows"][window]) for window in ("28d", "all")] == [2 + (len(rows) == 5), 2]


def test_the_reference_score_is_of_two_markets_and_says_of_which_days() -> None:
    reference = reference_score()
    assert reference["symbols"] == ["BTCUSDT", "ETHUSDT"]
    assert reference["days"] == ["2024-06-24", "2024-07-28"]
    for score in reference["scores"]:
        assert score["scored"]
        assert score["model"] == "turnover"
        rows = {(each["side"], each["horizon"], each["measure"], each["baseline"]) for each in score["windows"]["all"]}
        assert ("long", "nowcast", "spearman", "") in rows
        assert ("short", "nowcast", "spearman", "volume-only map") in rows


def test_a_symbol_without_a_record_says_what_it_needs(con: Connection) -> None:
    con.execute("UPDATE symbols SET simulated = false")
    for table in ("raw_liquidations", "recorded"):
        con.execute(f"DELETE FROM {table}")
    found = score_record(con, BTC, "turnover")
    assert not found["scored"]
    assert found["source"] is None
    assert "no record of real liquidations is stored; set HEATMAP_LIQUIDATIONS" in found["words"]
    assert found["windows"] == {"28d": [], "all": []}
    assert found["reference"] == reference_score()
    con.execute("UPDATE symbols SET simulated = true")
    assert "never scored" in score_record(con, BTC, "turnover")["words"]
    with pytest.raises(ViewError, match="nothing is stored of bybit:XRPUSDT turnover"):
        score_record(con, "BYBIT_XRPUSDT", "turnover")


@pytest.mark.slow
def test_a_score_comes_with_its_hours_and_whose_record_it_is(
    scorable: Settings, reports: pd.DataFrame, tmp_path: Path
) -> None:
    keep(scorable, write_reports(tmp_path / "files", reports, 1, LAST))
    with Warehouse(scorable.home).connect(BTC) as con:
        assert "not scored yet" in score_record(con, BTC, "turnover")["words"]
    (result,) = score_home(scorable)
    with Warehouse(scorable.home).connect(BTC) as con:
        found = score_record(con, BTC, "turnover")
    json.dumps(found, allow_nan=False)
    assert found["scored"]
    assert found["words"].startswith(
        "held against the liquidations of BTCUSDT on its own exchange, binance; not every one"
    )
    assert found["source"] == {
        "name": "binance_file",
        "exchange": "binance",
        "own_exchange": True,
        "complete": False,
    }
    assert [len(found["windows"][window]) for window in ("28d", "all")] == [44, 44]
    assert found["windows"]["all"][0]["measure"] == "hours_with_reports"
    hours = found["hours"]
    assert {len(column) for column in hours.values()} == {2 * 24 * 15}
    assert hours["hour"][0] == "2024-03-09T00:00:00Z"
    assert result.source == "binance_file"  # type: ignore[union-attr]
