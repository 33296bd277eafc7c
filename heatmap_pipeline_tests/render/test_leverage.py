"""The control of leverage tiers: its functions, run by node."""

from __future__ import annotations

from heatmap_pipeline.model.parameters import MODELS
from heatmap_pipeline.views.window import TIER_WORDS
from heatmap_pipeline_tests.render.node import of_node

TIERS = [leverage for leverage, _ in MODELS["turnover"].leverage_weights]


def test_near_means_the_same_on_page_and_endpoint() -> None:
    near = of_node("leverage.js", "[NEAR_FROM, tiersOf('near', given)]", TIERS)
    assert near == [TIER_WORDS["near"], [tier for tier in TIERS if tier >= TIER_WORDS["near"]]]


def test_presses() -> None:
    """Each line: what is chosen, what is pressed, and what is chosen then."""
    lines = [
        ("", "25x", "3,5,10,20,50,75,100,125"),
        ("3,5,10,20,50,75,100,125", "25x", ""),
        ("", "near", "near"),
        ("near", "all", ""),
        ("near", "125x", "25,50,75,100"),
        ("25,50,75,100", "125x", "near"),
        ("near", "3x", "3,25,50,75,100,125"),
        ("50", "50x", "50"),
        ("50", "3x", "3,50"),
    ]
    told = of_node(
        "leverage.js",
        "given.lines.map(([text, press]) => pressTier(text, given.tiers, press))",
        {"lines": lines, "tiers": TIERS},
    )
    assert told == [after for _, _, after in lines]


def test_links() -> None:
    texts = {"": "", "near": "near", "all": "", "100, 25,25": "25,100", "x": "", "25,": "", "1": "", "12.5,7": "7,12.5"}
    assert of_node("leverage.js", "given.map(readTiers)", list(texts)) == list(texts.values())
    assert of_node("leverage.js", "readTiers(null)") == ""


def test_buttons_say_what_is_on() -> None:
    options = "Object.entries(tierOptions(given.text, given.tiers)).map(([key, { pressed, disabled = false }]) => "
    options += "[key, pressed, disabled])"

    def on(text: str, tiers: list[float]) -> tuple[list[str], list[str]]:
        told = of_node("leverage.js", options, {"text": text, "tiers": tiers})
        assert [key for key, *_ in told] == ["all", "near", *(f"{tier:g}x" for tier in tiers)]
        return [key for key, pressed, _ in told if pressed], [key for key, _, disabled in told if disabled]

    every = [f"{tier:g}x" for tier in TIERS]
    assert on("", TIERS) == (["all", *every], [])
    assert on("near", TIERS) == (["near", *every[4:]], [])
    assert on("3,50", TIERS) == (["3x", "50x"], [])
    assert on("", [5.0, 10.0]) == (["all", "5x", "10x"], ["near"])
    assert on("", [50.0, 100.0]) == (["all", "50x", "100x"], [])


def test_another_model_keeps_only_the_word() -> None:
    told = of_node(
        "leverage.js",
        "[[{ model: 'delta' }, 'near'], [{ symbol: 'X' }, '25,50'], [{ range: '7d' }, '25,50']]"
        ".map(([change, text]) => tiersAfter(change, text)).concat(tiersText([25, 50]))",
    )
    assert told == ["near", "", "25,50", "leverage 25x, 50x only"]
