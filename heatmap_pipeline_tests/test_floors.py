"""The house stands on floors: what may import what, read from the code, wherever an import stands."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import heatmap_pipeline
from heatmap_pipeline.prices import MAX_PRICE

HOUSE = Path(heatmap_pipeline.__file__).parent
FLOORS = (
    {"", "errors", "source_kinds"},  # "" is the package itself: its version
    {"instants", "prices", "files", "locks", "compiled", "surroundings", "symbols"},
    {"settings", "alert_rules"},
    {"commands"},
    {"model"},
    {"market", "bins"},
    {"store", "notices"},
    {"chain", "views"},
    {"fleet"},
    {"render"},
    {"api", "orchestration"},
    {"client"},
    {"mcp_server"},
    {"definitions", "cli"},
    {"__main__"},
)
"""Rooms from the ground up. A room imports from the floors below it only, so there is no circle either."""

GROUND = set().union(*FLOORS[:3])
ONLY: dict[str, set[str]] = {"model": GROUND, "market": GROUND}
"""Rooms that import less of ours than their floor allows."""

PACKAGES: dict[str, set[str]] = {
    "dagster": {"orchestration", "definitions"},
    "dagster_duckdb": {"orchestration"},
    "duckdb": {"store"},
    "fastapi": {"api"},
    "uvicorn": {"api", "orchestration"},
    "click": {"cli"},
    "mcp": {"mcp_server"},
    "xarray": {"client"},
    "obstore": {"store"},
}
"""Packages of others that belong to some rooms only."""

NOT_A_TYPE = {"market": {"load_settings"}, "model": {"load_settings"}}
"""Names of `settings` that read the surroundings of the process: these rooms are told, they do not look."""


@dataclass(frozen=True)
class Import:
    """One import: where it stands, the dotted name that is imported, and the room it is in."""

    room: str
    place: str
    name: str

    @property
    def package(self) -> str:
        return self.name.split(".")[0]


def imports(house: Path) -> list[Import]:
    """Return every import of a package's files: of modules, of functions, under TYPE_CHECKING, by `import_module`."""
    found = []
    for file in sorted(house.rglob("*.py")):
        where = file.relative_to(house)
        parts = where.with_suffix("").parts
        room = "" if parts == ("__init__",) else parts[0]
        package = [house.name, *parts[:-1]]
        for node in ast.walk(ast.parse(file.read_text(), str(file))):
            found += [Import(room, f"{where}:{getattr(node, 'lineno', 0)}", name) for name in _names(node, package)]
    return found


def _names(node: ast.AST, package: list[str]) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        # One dot is the file's own package, each further one the package above it.
        base = package[: len(package) + 1 - node.level] if node.level else []
        base += node.module.split(".") if node.module else []
        yield from (".".join([*base, alias.name]) for alias in node.names)
    elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if called in {"import_module", "__import__"} and isinstance(node.args[0].value, str):
            yield node.args[0].value


def faults(house: Path, there: list[Import]) -> list[str]:
    """Return what of its imports breaks the rules above, a line each."""
    floor_of = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
    rooms = {file.stem if file.suffix else file.name for file in house.iterdir() if _holds_code(file)}
    lines = [f"{room}: has no floor; give it one in FLOORS" for room in sorted(rooms - floor_of.keys() - {"__init__"})]
    for each in there:
        allowed = PACKAGES.get(each.package)
        if allowed is not None and each.room not in allowed:
            lines.append(f"{each.place}: {each.room} imports {each.name}, which belongs to {sorted(allowed)}")
        if each.name.startswith("dagster._"):
            lines.append(f"{each.place}: {each.name} is Dagster's own and may move with any version")
        if each.package != house.name or each.room not in floor_of:
            continue
        second = each.name.split(".")[1:2]
        target = second[0] if second and second[0] in floor_of else ""
        if target == each.room:
            continue
        if floor_of[target] >= floor_of[each.room]:
            lines.append(f"{each.place}: {each.room} imports {each.name}, which is not below it")
        elif target not in ONLY.get(each.room, floor_of.keys()):
            lines.append(f"{each.place}: {each.room} imports {each.name}, and may only import {sorted(GROUND)}")
        elif target == "settings" and each.name.split(".")[-1] in NOT_A_TYPE.get(each.room, ()):
            lines.append(f"{each.place}: {each.room} imports {each.name}, which reads the environment")
    return lines


def _holds_code(file: Path) -> bool:
    return file.suffix == ".py" or (file.is_dir() and any(file.rglob("*.py")))


@pytest.fixture(scope="module")
def there() -> list[Import]:
    """The imports of the house as it is."""
    return imports(HOUSE)


def test_every_room_imports_from_the_floors_below_it_only(there: list[Import]) -> None:
    assert faults(HOUSE, there) == []


def test_the_imports_that_are_known_to_be_there_are_read(there: list[Import]) -> None:
    """Of each kind one: of a module, of a function, and one that only type checkers follow."""
    read = {(each.place.split(":")[0], each.name) for each in there}
    assert {
        ("definitions.py", "heatmap_pipeline.chain.settings.load_checked_settings"),
        ("cli/verbs.py", "heatmap_pipeline.api.server"),
        ("market/sources.py", "heatmap_pipeline.market.download.Outcome"),
    } <= read
    assert {each.room for each in there} >= set().union(*FLOORS) - {"", "errors"}


def test_the_largest_price_is_said_once() -> None:
    said = [
        str(file.relative_to(HOUSE))
        for file in sorted(HOUSE.rglob("*.py"))
        for node in ast.walk(ast.parse(file.read_text(), str(file)))
        if isinstance(node, ast.Constant) and node.value == MAX_PRICE
    ]
    assert said == ["prices.py"]


CLEAN = {
    "errors.py": "",
    "settings.py": "from heatmap_pipeline.errors import HeatmapError\ndef load_settings(): ...",
    "model/engine.py": "import numpy\nfrom heatmap_pipeline.errors import HeatmapError\nfrom .book import Lots",
    "market/web.py": "import numpy\nimport heatmap_pipeline\nfrom heatmap_pipeline import settings",
    "store/days.py": "import duckdb\nfrom heatmap_pipeline.model.book import Lots\nfrom ..market import tables",
    "chain/due.py": "from heatmap_pipeline.store import days",
    "orchestration/jobs.py": "import dagster as dg\nfrom heatmap_pipeline.chain.due import due_days",
}


@pytest.mark.parametrize(
    ("file", "planted", "said"),
    [
        ("chain/due.py", "import dagster as dg", "chain/due.py:2: chain imports dagster, "),
        (
            "orchestration/jobs.py",
            "from dagster._core import utils",
            "orchestration/jobs.py:3: dagster._core.utils is ",
        ),
        ("views/data.py", "from dagster import asset", "views/data.py:1: views imports dagster.asset, "),
        ("model/engine.py", "import duckdb", "model/engine.py:4: model imports duckdb, "),
        ("model/engine.py", "def run():\n    from ..store import days", "model/engine.py:5: model imports "),
        ("store/days.py", "if TYPE_CHECKING:\n    from heatmap_pipeline.chain import due", "store/days.py:5: store "),
        ("market/web.py", "from heatmap_pipeline.model import book", "market/web.py:4: market imports "),
        ("market/web.py", "from heatmap_pipeline.settings import load_settings", "market/web.py:4: market imports "),
        ("render/page.py", "importlib.import_module('heatmap_pipeline.api')", "render/page.py:1: render imports "),
        ("errors.py", "import heatmap_pipeline.settings", "errors.py:1: errors imports "),
        ("views/grid.py", "from ..chain import due", "views/grid.py:1: views imports "),
        ("loft.py", "", "loft: has no floor"),
    ],
)
def test_a_planted_import_is_found(tmp_path: Path, file: str, planted: str, said: str) -> None:
    house = tmp_path / "heatmap_pipeline"
    for name, text in CLEAN.items():
        (house / name).parent.mkdir(parents=True, exist_ok=True)
        (house / name).write_text(text)
    assert faults(house, imports(house)) == []
    (house / file).parent.mkdir(exist_ok=True)
    (house / file).write_text(f"{CLEAN.get(file, '')}\n{planted}".lstrip("\n"))
    (line,) = faults(house, imports(house))
    assert line.startswith(said)
