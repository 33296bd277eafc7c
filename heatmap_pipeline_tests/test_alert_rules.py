"""Rules for alerts: what a file may say, and the sentence for what it may not."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heatmap_pipeline.alert_rules import AlertRulesError, CascadeRule, NearRule, ZoneRule, _rule, read_rules
from heatmap_pipeline.chain.settings import alert_rules, load_checked_settings
from heatmap_pipeline.settings import SettingsError, load_settings

GOOD = """
[[alert]]
name = "close to something large"
when = "near"
within_percent = 1
volume = 50_000_000
symbols = ["BTCUSDT"]

[[alert]]
name = "large zones"
when = "zone"
volume = 2e8
events = ["consumed"]
model = "delta"

[[alert]]
name = "cascade"
when = "cascade"
times = 10.5
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "alerts.toml"
    path.write_text(text)
    return path


def test_a_file_of_every_kind_of_rule(tmp_path: Path) -> None:
    near, zone, cascade = read_rules(written(tmp_path, GOOD))
    assert near == NearRule(
        name="close to something large", when="near", within_percent=1.0, volume=5e7, symbols=("BTCUSDT",)
    )
    assert zone == ZoneRule(name="large zones", when="zone", volume=2e8, events=("consumed",), model="delta")
    assert cascade == CascadeRule(name="cascade", when="cascade", times=10.5)
    assert (near.is_for("BTCUSDT"), near.is_for("ETHUSDT"), cascade.is_for("ETHUSDT")) == (True, False, True)
    settings = load_settings(alerts=tmp_path / "alerts.toml")
    assert alert_rules(settings) == (near, zone, cascade)
    assert alert_rules(load_settings()) == ()


def near(more: str = "", **changes: str) -> str:
    """A rule of which some values are others, as TOML writes them."""
    values = {"name": "'a'", "when": "'near'", "within_percent": "1.0", "volume": "1e6", **changes}
    return "\n".join(["[[alert]]", *(f"{key} = {value}" for key, value in values.items()), more, ""])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no rule is in it; write each rule as a table [[alert]]"),
        ("[alert]\nname = 'a'", "no rule is in it; write each rule as a table [[alert]]"),
        ("[[alerts]]\nname = 'a'", "'alerts' is not known here; write each rule as a table [[alert]]"),
        ("alert = [1]", "no rule is in it"),
        ("[[alert]\n", "the file is no TOML: "),
        ("[[alert]]\nname = 'a'", "rule 'a': when is missing; it is near, zone or cascade"),
        ("[[alert]]\nwhen = 'soon'", "rule '1': when = 'soon'; it is near, zone or cascade"),
        (near(when="['near']"), "rule 'a': when = ['near']; it is near, zone or cascade"),
        ("[[alert]]\nwhen = 'cascade'\nname = 'a'", "'a': times is missing; a rule with when = 'cascade' needs it"),
        (near("volum = 1"), "rule 'a': volum is not known; do you mean volume?"),
        (near("zzz = 1"), "rule 'a': zzz is not known; it has name, symbols, model, within_percent and volume"),
        (near(volume="-1"), "rule 'a': volume = -1: it is a number above 0"),
        (near(volume="inf"), "rule 'a': volume = inf: it is a number, written without"),
        (near(volume="nan"), "rule 'a': volume = nan: it is a number"),
        (near(volume="true"), "rule 'a': volume = true: it is a number, written without"),
        (
            near(volume="'1 M'"),
            "rule 'a': volume = '1 M': it is a number, written without quotes or units, such",
        ),
        (near(within_percent="51"), "within_percent = 51: it is a number up to 50"),
        (near(symbols="['btc/usdt']"), "rule 'a': symbols = ['btc/usdt']: symbol 'btc/usdt' is not"),
        (near(symbols="'BTCUSDT'"), "rule 'a': symbols = 'BTCUSDT': it is a list, such as ["),
        (near() + near(), "two rules are called 'a'; give each a name of its own"),
        (near(name='"a\\nb"'), "name = 'a\\nb': write it in one line of printable letters"),
        (near(name="''"), "rule '': name = '': it is a text of 1 letter at least"),
        (near(name=f"'{'a' * 81}'"), "it is a text of 80 letters at most"),
        (near(name="' '"), "name = ' ': write it in one line of printable letters"),
        ("[[alert]]\nname = 'a'\nwhen = 'cascade'\ntimes = 1", "times = 1: it is a number above 1"),
        ("[[alert]]\nname = 'a'\nwhen = 'zone'\nvolume = 1\nevents = []", "name at least one of appears, consumed"),
        (
            "[[alert]]\nname = 'a'\nwhen = 'zone'\nvolume = 1\nevents = ['x']",
            "['x']: it is appears or consumed",
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(tmp_path: Path, text: str, said: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(AlertRulesError) as caught:
        read_rules(path)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(SettingsError) as shown:
        load_checked_settings(alerts=path)
    assert str(shown.value) == f"setting HEATMAP_ALERTS = {str(path)!r}: {caught.value}"


def test_a_model_that_there_is_not_and_a_file_that_is_none(tmp_path: Path) -> None:
    path = written(tmp_path, near(model="'gamma'"))
    with pytest.raises(SettingsError, match=r"rule 'a': model = 'gamma'; computed here: turnover and delta"):
        load_checked_settings(alerts=path)
    written(tmp_path, near(model="'delta'"))
    assert alert_rules(load_settings(alerts=path))[0].model == "delta"
    with pytest.raises(SettingsError, match=r"computed here: turnover$"):
        load_checked_settings(alerts=path, models=("turnover",))
    with pytest.raises(SettingsError, match=r"the file cannot be read \(Is a directory\); correct the path"):
        load_checked_settings(alerts=tmp_path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match="no text in UTF-8"):
        load_checked_settings(alerts=path)


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(max_size=4), inside, max_size=3),
    max_leaves=5,
)


@given(
    st.dictionaries(
        st.sampled_from(["name", "when", "volume", "within_percent", "times", "events", "symbols", "model", "x"]),
        _VALUES | st.sampled_from(["near", "zone", "cascade"]),
        max_size=6,
    )
)
def test_any_table_is_a_rule_or_one_sentence(table: dict[str, object]) -> None:
    said = ""
    try:
        assert _rule(1, table).name == table["name"]
    except AlertRulesError as error:
        said = str(error)
    assert said.isprintable()
    assert "Input should" not in said, "the words of the library are for programmers"
    assert not said or said.startswith("rule ")
