"""docs/alerts.md: its rules tell on real files what it prints, and what it names is there."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import get_args
from urllib.parse import parse_qsl, urlsplit

import pytest

from heatmap_pipeline import cli
from heatmap_pipeline.alert_rules import CascadeRule, NearRule, ZoneRule
from heatmap_pipeline.api.parameters import AlertsQuery
from heatmap_pipeline.api.schemas import AlertBody
from heatmap_pipeline.model.alerts import Kind
from heatmap_pipeline.settings import Settings
from heatmap_pipeline.store.dictionary import published_relations
from heatmap_pipeline_tests._real_sets import RealRuns
from heatmap_pipeline_tests.alerts_page import (
    PAGE,
    body_of,
    lines_of,
    rules_of,
    shown_body,
    shown_lines,
    told_of_the_day,
)

TEXT = PAGE.read_text("utf-8")


@pytest.mark.market
@pytest.mark.slow
def test_the_rules_tell_of_the_real_day_what_is_printed(run_of: RealRuns, tmp_path: Path) -> None:
    """`python -m heatmap_pipeline_tests.alerts_page HOME` writes it anew."""
    told = told_of_the_day(run_of("A").home, tmp_path, rules_of(TEXT, tmp_path))
    assert {alert.kind for alert in told} == set(get_args(Kind)), "one of each kind is shown"
    assert lines_of(told) == shown_lines(TEXT)
    printed, sent = json.loads(shown_body(TEXT)), json.loads(body_of(told))
    assert list(printed) == list(sent)
    # Another processor may sum in another order: the last digit of the volume, and with it the hash.
    for body in (printed, sent):
        assert re.fullmatch("[0-9a-f]{24}", body.pop("run_id"))
    assert printed.pop("volume") == pytest.approx(sent.pop("volume"), rel=1e-9)
    assert printed == sent


def test_a_rule_of_each_kind_is_shown_with_every_key_it_takes(tmp_path: Path) -> None:
    rules = rules_of(TEXT, tmp_path)
    assert [type(rule) for rule in rules] == [NearRule, ZoneRule, CascadeRule]
    used = {name for rule in rules for name in rule.model_fields_set}
    assert used == {name for rule in rules for name in type(rule).model_fields}


def test_commands_settings_and_kinds_are_those_there_are() -> None:
    verbs = set(re.findall(r"`heatmap ([a-z]+)", TEXT))
    assert {"run", "ui", "forget"} <= verbs <= cli.main.commands.keys()
    settings = set(re.findall(r"HEATMAP_([A-Z_]+)", TEXT))
    assert {"ALERTS", "WEBHOOK"} <= settings <= {name.upper() for name in Settings.model_fields}
    heading, *kinds = re.findall(r"^\| `([a-z]+)` \|", TEXT, re.MULTILINE)
    assert (heading, tuple(kinds)) == ("kind", get_args(Kind))


def test_table_and_endpoint_have_the_columns_that_are_named() -> None:
    section = TEXT.partition("## The table")[2]
    named, _, request = section.partition("`GET ")
    (columns,) = (relation.types for relation in published_relations() if relation.name == "alerts")
    assert set(re.findall(r"`([a-z_]+)`", named)) == {*columns, "alerts"}
    assert set(AlertBody.model_fields) == {*columns, "at"} - {"known_at"}
    address = urlsplit(request.partition("`")[0])
    assert address.path == "/alerts"
    query = AlertsQuery.model_validate(dict(parse_qsl(address.query)))
    assert (query.symbol, query.limit) == ("BTCUSDT", 50)
