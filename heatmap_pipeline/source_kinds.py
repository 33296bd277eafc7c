"""What each source can do, as rows of one table: everything that depends on where data come from asks here.

Another exchange is another row here, and beside it a file in `market/` with a line in `market/sources.py` that opens
it. Nothing here imports anything, so that settings and the command line may ask too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class SourceKind:
    """What is known of a source without opening it.

    Attributes:
        name: how users call it.
        grows: whether new days come by themselves, so that missing ones can be caught up with.
        has_today: whether it has data of the day going on.
        over_network: whether it may fail today and work tomorrow, so that asking again helps.
        simulated: whether its market is made up.
        given_folder: whether it reads a folder that the user names; any other keeps its files below the home.
        one_sided: whether it says itself that its open interest counts one side of each contract of Binance; else, and
            of any other exchange, it is measured.
        folder: what its files are called below the home; '' is its name.
    """

    name: str
    grows: bool
    has_today: bool = False
    over_network: bool = False
    simulated: bool = False
    given_folder: bool = False
    one_sided: bool = False
    folder: str = ""


SOURCES: Mapping[str, SourceKind] = {
    kind.name: kind
    for kind in (
        SourceKind("binance", grows=True, has_today=True, over_network=True, one_sided=True),
        SourceKind("archive", grows=False, given_folder=True),
        SourceKind("demo", grows=True, simulated=True, one_sided=True),
        SourceKind("exchange", grows=True, has_today=True, over_network=True, one_sided=True, folder="binance"),
    )
}
"""The sources by name."""


RECORDED_EXCHANGES = ("bybit", "binance")
"""The exchanges whose liquidations `heatmap record` can write down; `market/liquidations/streams.py` knows how."""


def folder_sources() -> list[str]:
    """Return the names of the sources that read a folder of the user's; `--archive` alone means the first."""
    return [kind.name for kind in SOURCES.values() if kind.given_folder]
