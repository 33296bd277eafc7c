"""What the answers of a load say, and whether they may: by the records of `_publisher.py`.

Every answer about the newest data has to say what exactly one publication says, a recent one, and none that is older
than what the same client was told before.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

import numpy as np

SLACK = 6.0
"""Seconds after which a publication must be what is answered, on a busy machine."""

Facts = dict[str, Any]
"""What an answer says, as far as a record can tell whether it is so."""


def read_heatmap(body: Any, start: str | None) -> Facts:
    """Return the totals of an answer, after having summed up its own cells."""
    meta = body["meta"]
    if "data" in body:
        assert len(body["data"]) == meta["total_snapshots"], "snapshots are missing"
        last = body["data"][-1]["levels"]
        sums = [sum(level[name] for level in last) for name in ("long_density", "short_density")]
        consumed = sum(one["consumed_long"] + one["consumed_short"] for one in body["data"])
    else:
        sums = []
        for name in ("long", "short"):
            time, volume = np.array(body[name]["time"]), np.array(body[name]["volume"])
            sums.append(float(volume[time == len(body["timestamps"]) - 1].sum()))
        consumed = sum(sum(body[name]["volume"]) for name in ("consumed_long", "consumed_short"))
    told = [meta["total_long_volume"], meta["total_short_volume"], meta["total_consumed"]]
    # Every cell is rounded to 0.0001 USDT.
    assert np.allclose([*sums, consumed], told, rtol=1e-9, atol=2.0), f"cells sum up to {sums}, {consumed}, not {told}"
    return {
        **{name: meta[name] for name in ("symbol", "model", "as_of")},
        "long": told[0],
        "short": told[1],
        **({"consumed": told[2], "start": start} if start is not None else {}),
    }


def read_weighted(body: Any) -> Facts:
    """Return how new an answer with other weights is; what its numbers have to be is not in the database."""
    return {name: read_heatmap(body, None)[name] for name in ("symbol", "model", "as_of")}


def read_map(body: Any) -> Facts:
    """Return the totals of a map."""
    for side, end in (("long", 0), ("short", -1)):
        total = sum(one[side] for one in body["buckets"])
        told = body[f"total_{side}_volume"]
        assert np.allclose([total, body["buckets"][end][f"cumulative_{side}"]], told, rtol=1e-9, atol=1.0)
    names = ("symbol", "model", "as_of", "coverage")
    return {
        **{name: body[name] for name in names},
        "long": body["total_long_volume"],
        "short": body["total_short_volume"],
    }


def read_levels(body: Any) -> Facts:
    """Return the totals of the deprecated list, less exact."""
    sums = {side: sum(one["volume"] for one in body["levels"] if one["side"] == side) for side in ("long", "short")}
    return {**{name: body[name] for name in ("symbol", "model", "as_of", "coverage")}, **sums}


def read_klines(body: Any) -> Facts:
    """Return the volume of every day."""
    assert body["meta"]["total_candles"] == len(body["data"])
    return {"symbol": body["meta"]["symbol"], "volume": {one["open_time"][:10]: one["volume"] for one in body["data"]}}


def read_symbols(body: Any) -> Facts:
    """Return all there is, to be judged together."""
    names = ("price", "as_of", "coverage", "last_day")
    return {
        "version": body["version"],
        "all": {one["symbol"]: {name: one[name] for name in names} for one in body["symbols"]},
    }


# -- how it is judged


def _near(one: float, other: float) -> bool:
    return abs(one - other) <= 1e-9 * abs(other) + 2e-2


def says(facts: Facts, record: Facts) -> bool:
    """Return whether what an answer says is what a publication says."""
    if "all" in facts:
        return facts["all"].keys() == record["symbols"].keys() and all(
            _near(one["price"], record["symbols"][name]["price"])
            and all(
                _near(share, record["symbols"][name]["models"][model]["coverage"])
                for model, share in one["coverage"].items()
            )
            and one["as_of"] in {model["as_of"] for model in record["symbols"][name]["models"].values()}
            for name, one in facts["all"].items()
        )
    there = record["symbols"][facts["symbol"]]
    if "volume" in facts:
        same_days = facts["volume"].keys() == there["volume"].keys()
        return same_days and all(_near(volume, there["volume"][day]) for day, volume in facts["volume"].items())
    model = there["models"][facts["model"]]
    if facts["as_of"] != model["as_of"]:
        return False
    same = all(_near(facts[name], model[name]) for name in ("long", "short", "coverage") if name in facts)
    if same and "consumed" in facts:
        same = _near(
            facts["consumed"], sum(volume for day, volume in model["consumed"].items() if day >= facts["start"])
        )
    return same


@dataclass
class Got:
    """An answer."""

    kind: str
    path: str
    client: int
    asked: float
    answered: float
    status: int
    facts: Facts
    problem: str = ""


@dataclass
class Report:
    """All that was seen."""

    got: list[Got] = field(default_factory=list)
    memory: list[tuple[float, float]] = field(default_factory=list)
    """Seconds since the start, MB resident."""
    files: list[int] = field(default_factory=list)
    """Open files of the server."""
    threads: list[int] = field(default_factory=list)
    records: list[Facts] = field(default_factory=list)

    def lines(self) -> list[str]:
        """Return the numbers for people."""
        lines = [f"{len(self.got)} answers, {len(self.records) - 1} publications"]
        lines.append(f"statuses: {dict(sorted(Counter(one.status for one in self.got).items()))}")
        by_kind: dict[str, list[float]] = defaultdict(list)
        for one in self.got:
            by_kind["304" if one.status == 304 else one.kind].append(1000 * (one.answered - one.asked))
        for kind, times in sorted(by_kind.items()):
            p50, p95, p99 = np.percentile(times, (50, 95, 99))
            lines.append(f"{kind:22} n={len(times):6} p50 {p50:7.1f}  p95 {p95:7.1f}  p99 {p99:7.1f} ms")
        every = max(len(self.memory) // 20, 1)
        lines.append("MB: " + " ".join(f"{second:.0f}s:{mb:.0f}" for second, mb in self.memory[::every]))
        lines.append(f"open files {self.files[0]} .. {self.files[-1]}, threads {self.threads[0]} .. {self.threads[-1]}")
        return lines

    def problems(self) -> list[str]:
        """Return everything that must not be: errors, unknown or mixed versions, old ones, going back in time."""
        found = [f"{one.kind} {one.path}: {one.problem}" for one in self.got if one.problem]
        newest: dict[tuple[int, str], int] = defaultdict(int)
        for one in sorted(self.got, key=lambda one: one.asked):
            if one.problem or one.status not in {200, 304} or one.facts.get("as_of", "") is None:
                continue
            if not one.facts.keys() & {"all", "symbol"}:
                continue
            whose = one.facts.get("symbol", "all")
            matching = [record["number"] for record in self.records if says(one.facts, record)]
            oldest = max((record["number"] for record in self.records if record["done"] < one.asked - SLACK), default=0)
            allowed = [number for number in matching if number >= oldest]
            if not matching:
                found.append(f"{one.kind} {one.path}: {one.facts} is what no publication says")
            elif not allowed:
                found.append(
                    f"{one.kind} {one.path}: is of publication {matching[-1]}, and {oldest} was there long before"
                )
            elif matching[-1] < newest[one.client, whose]:
                found.append(f"{one.kind} {one.path}: goes back from {newest[one.client, whose]} to {matching[-1]}")
            else:
                newest[one.client, whose] = max(newest[one.client, whose], allowed[0])
        return found

    def growth(self) -> float:
        """Return the memory at the end as a multiple of that after the first fifth of the time."""
        sizes = [mb for _, mb in self.memory]
        fifth = len(sizes) // 5
        warm = max(sizes[fifth // 2 : fifth + 1])
        return float(np.median(sizes[-max(fifth // 2, 1) :])) / warm
