"""The tools an assistant may call, as the SDK of the Model Context Protocol serves them."""

from __future__ import annotations

import signal
from collections.abc import Callable
from functools import cached_property, wraps
from inspect import getdoc
from pathlib import Path
from typing import Annotated, Any, TypeAlias

from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations
from pydantic import Field

from heatmap_pipeline import __version__
from heatmap_pipeline.client import Heatmap
from heatmap_pipeline.client.heatmap import Interval
from heatmap_pipeline.errors import HeatmapError
from heatmap_pipeline.mcp_server import brief

_INSTRUCTIONS = """\
Liquidation levels of crypto perpetuals: at which prices leveraged positions would be liquidated, and how much.
All levels are modelled from public candles and open interest: estimates, nobody's orders, no advice. Say so when you
repeat them, with the `as_of` and the units of `provenance`; call a market of kind `simulated` made up. What is null is
missing, not 0. Times are UTC; prices and volumes are in the quote asset that `units` names. Call `markets` first.
Of a base (BTC) the books of its markets are added up: say which, as `parts` has them, and which are missing.
"""

Symbol: TypeAlias = Annotated[str, Field(description="As `markets` lists it, for example BTCUSDT.", max_length=40)]
SymbolOrBase: TypeAlias = Annotated[
    str,
    Field(
        description="A market as `markets` lists it (BTCUSDT), or a base (BTC): the sum of its markets' books.",
        max_length=40,
    ),
]
Model: TypeAlias = Annotated[
    str | None, Field(description="A model of the symbol; without it its first.", max_length=40)
]
Tiers: TypeAlias = Annotated[
    str | None,
    Field(
        description="Leverages whose lots alone are shown, as 25,50,100; `near`: 25 and up; without it all.",
        max_length=400,
    ),
]
Time: TypeAlias = Annotated[str | None, Field(max_length=40)]
Within: TypeAlias = Annotated[float, Field(ge=0.1, le=1000, description="How far from the price, percent.")]


class Tools:
    """The tools; their docstrings are what an assistant reads. Each raises `HeatmapError` with one sentence.

    Args:
        source: the path of a home or a published file, opened at the first question; or the address of an endpoint.
        token: of the endpoint.

    Raises:
        ClientError: for an address that is none.
    """

    def __init__(self, source: str | Path, token: str | None = None) -> None:
        self._source, self._token = source, token
        if isinstance(source, str):
            _ = self._heatmap  # an address is judged, though nobody is asked yet

    @cached_property
    def _heatmap(self) -> Heatmap:
        return Heatmap(self._source, token=self._token)

    def markets(self, name_contains: Annotated[str, Field(max_length=40)] = "") -> dict[str, Any]:
        """List the symbols that are published: models, days, newest price, as-of, whether modelled or simulated.

        `bases` names those of which several markets can be asked for as one.
        """
        return brief.markets(self._heatmap.markets(), name_contains, self._heatmap.bases())

    def liquidation_map(
        self,
        symbol: SymbolOrBase,
        time: Time = None,
        model: Model = None,
        leverage_tiers: Tiers = None,
        within_percent: Within = 10.0,
        levels: Annotated[int, Field(ge=1, le=brief.MOST_LEVELS, description="Most price bins.")] = 40,
    ) -> dict[str, Any]:
        """Return modelled liquidation levels by price at a moment (ISO 8601, UTC; without one the newest).

        `long` is what would be liquidated if price fell into a bin, `short` if it rose into it.
        """
        return brief.book(
            self._heatmap.map(symbol, time, model=model, leverage_tiers=leverage_tiers), within_percent, levels
        )

    def nearest_zones(
        self,
        symbol: SymbolOrBase,
        time: Time = None,
        model: Model = None,
        leverage_tiers: Tiers = None,
        within_percent: Within = 10.0,
    ) -> dict[str, Any]:
        """Return the nearest and the largest zones of modelled liquidations above and below the price at a moment."""
        return brief.zones(
            self._heatmap.zones(symbol, time, model=model, within_percent=within_percent, leverage_tiers=leverage_tiers)
        )

    def heatmap_summary(
        self,
        symbol: SymbolOrBase,
        start: Time = None,
        end: Time = None,
        interval: Interval = "1h",
        model: Model = None,
        leverage_tiers: Tiers = None,
    ) -> dict[str, Any]:
        """Sum up a range of time (without one the newest 7 days): price, modelled liquidations, open volume, levels."""
        return brief.summary(
            self._heatmap.series(
                symbol, start, end, interval=interval, model=model, max_rows=200, leverage_tiers=leverage_tiers
            )
        )

    def score(self, symbol: Symbol, model: Model = None) -> dict[str, Any]:
        """Return how well the map agreed with liquidations that really happened, or why there is no score."""
        return brief.score(self._heatmap.score(symbol, model=model))


NAMES = ("markets", "liquidation_map", "nearest_zones", "heatmap_summary", "score")
"""Methods of `Tools` that are served."""


def make_server(tools: Tools) -> MCPServer[Any]:
    """Return the server, which only reads."""
    server: MCPServer[Any] = MCPServer(
        "heatmap", title="Liquidation heatmap", version=__version__, instructions=_INSTRUCTIONS, log_level="WARNING"
    )
    only_reads = ToolAnnotations(read_only_hint=True, idempotent_hint=True, open_world_hint=False)
    for name in NAMES:
        tool = getattr(tools, name)
        server.tool(description=getdoc(tool), annotations=only_reads)(_for_people(tool))
    return server


def run(source: str | Path, token: str | None) -> None:
    """Serve over standard input and output until that is closed."""
    # Nothing has to be put away; a thread that waits for a line would keep the process from ending otherwise.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    make_server(Tools(source, token)).run()


def _for_people(tool: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """Return a tool whose refusals reach the assistant as they are said; anything else is a defect, and logged."""

    @wraps(tool)
    def answered(*args: Any, **kwargs: Any) -> dict[str, Any]:
        try:
            return tool(*args, **kwargs)
        except HeatmapError as error:
            raise ToolError(str(error)) from None

    return answered
