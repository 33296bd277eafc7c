"""GET /score: the stored score, or words why there is none; always with the reference score."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from heatmap_pipeline.settings import Settings
from heatmap_pipeline.store.publish import publish
from heatmap_pipeline.store.warehouse import Warehouse
from heatmap_pipeline.views.score import reference_score
from heatmap_pipeline_tests.api.homes import BTC, ask, client, refused
from heatmap_pipeline_tests.chain.scored import LAST, keep, score_home, write_reports

SCORE = "/score"


def test_a_simulated_market_is_answered_with_words_and_the_reference(published: Settings) -> None:
    with client(published) as one:
        found = ask(one, SCORE)
        assert (found["scored"], found["simulated"], found["source"]) == (False, True, None)
        assert "never scored" in found["words"]
        assert found["reference"] == reference_score()
        assert ask(one, SCORE, model="delta")["model"] == "delta"
        assert "there are" in refused(one, 404, SCORE, symbol="XRPUSDT")
        assert "there are" in refused(one, 404, SCORE, symbol=BTC, model="nothing")
        assert "missing" in refused(one, 422, SCORE)


@pytest.mark.slow
def test_a_score_is_served_as_it_is_stored_and_anew_when_only_it_changed(
    scorable: Settings, reports: pd.DataFrame, tmp_path: Path
) -> None:
    warehouse = Warehouse(scorable.home)
    publish(warehouse, [BTC])
    with client(scorable) as one:
        before = one.get(SCORE, params={"symbol": BTC})
        assert not before.json()["scored"]
        keep(scorable, write_reports(tmp_path / "files", reports, 1, LAST))
        score_home(scorable)
        assert publish(warehouse, [BTC]).changed
    with client(scorable) as one:
        after = one.get(SCORE, params={"symbol": BTC}, headers={"If-None-Match": before.headers["etag"]})
        assert after.status_code == 200
        found = after.json()
        with warehouse.read() as con:
            stored = con.execute(
                "SELECT CAST(side AS VARCHAR), horizon, measure, baseline, value, low, high, difference, "
                "difference_low, difference_high, hours FROM map_scores WHERE \"window\" = 'all' ORDER BY ALL"
            ).fetchall()
        (market,) = ask(one, "/markets", None)["markets"]
        window = found["windows"][market["score"]["window"]]
        headline = {
            row["side"]: (row["value"], row["hours"])
            for row in window
            if (row["measure"], row["horizon"], row["baseline"]) == ("spearman", "nowcast", "")
        }
        for side in ("long", "short"):
            assert market["score"][side] == headline[side][0]
        assert market["score"]["hours"] == min(hours for _, hours in headline.values())
        assert market["score"]["own_exchange"] is found["source"]["own_exchange"]
        assert market["score"]["source"] == found["source"]["name"]
        assert sorted(map(repr, (tuple(row.values()) for row in found["windows"]["all"]))) == sorted(map(repr, stored))
        assert (
            one.get(SCORE, params={"symbol": BTC}, headers={"If-None-Match": after.headers["etag"]}).status_code == 304
        )
