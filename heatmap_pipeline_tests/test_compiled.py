"""Machine code is kept where it can be; where it cannot, numbers are as right, and that is said once."""

from __future__ import annotations

import importlib.util
import logging
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from numba.core.environment import Environment

from heatmap_pipeline import compiled as module
from heatmap_pipeline.compiled import compiled

SOURCE = "def twice(number):\n    return 2 * number\n"


@pytest.fixture(autouse=True)
def _not_said_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_noticed", False)


def loaded(folder: Path) -> Any:
    """Return the function of a module in a folder, as a new process would: nothing of it is compiled."""
    file = folder / "numbers_of_ours.py"
    file.write_text(SOURCE)
    spec = importlib.util.spec_from_file_location("numbers_of_ours", file)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return compiled(made.twice)


def kept(folder: Path) -> list[Path]:
    return sorted((folder / "__pycache__").glob("*.nb[ic]"))


def one_line(caplog: pytest.LogCaptureFixture) -> str:
    (record,) = [record for record in caplog.records if record.name == module.__name__]
    assert record.levelno == logging.WARNING
    text = record.getMessage()
    assert "\n" not in text
    assert text.startswith("compiled code cannot be kept")
    return text


def test_what_one_process_compiled_the_next_one_finds(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = loaded(tmp_path)
    assert first(3) == 6
    assert len(kept(tmp_path)) == 2
    again = loaded(tmp_path)
    assert again(4) == 8
    assert sum(again.stats.cache_hits.values()) == 1
    assert not caplog.records


def test_a_function_without_a_place_is_compiled_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    """Its file is not there; where it is and nothing can be written, numba raises the same."""
    made: dict[str, Any] = {}
    exec(compile(SOURCE, "<nowhere>", "exec"), made)  # noqa: S102  # our own two lines
    for _ in range(2):
        assert compiled(made["twice"])(3) == 6
    assert "no locator available" in one_line(caplog)
    assert "NUMBA_CACHE_DIR" in one_line(caplog)


def test_a_disk_that_is_full_costs_no_number(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    function = loaded(tmp_path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))  # every write fails, as on a full disk
    try:
        result = function(3)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert result == 6
    one_line(caplog)
    assert loaded(tmp_path)(3) == 6


def _empty(index: Path) -> None:
    index.write_bytes(b"")


def _nonsense(index: Path) -> None:
    index.write_bytes(b"not a pickle")


def _another_users(index: Path) -> None:
    index.unlink()
    index.mkdir()  # cannot be read as a file, by whoever runs the tests


@pytest.mark.parametrize("spoil", [_empty, _nonsense, _another_users])
def test_what_cannot_be_read_is_compiled_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, spoil: Callable[[Path], None]
) -> None:
    assert loaded(tmp_path)(3) == 6
    spoil(next(file for file in kept(tmp_path) if file.suffix == ".nbi"))
    assert loaded(tmp_path)(3) == 6
    one_line(caplog)


def test_what_was_compiled_under_a_name_that_is_no_module_is_compiled_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As after `python -m doctest FILE`: the code is the same, and its module cannot be imported by that name."""
    assert loaded(tmp_path)(3) == 6
    for name in [name for name in Environment._memo if "numbers_of_ours" in name]:
        del Environment._memo[name]  # as in a new process: in this one the name is still known
    assert loaded(tmp_path)(3) == 6
    assert "No module named" in one_line(caplog)


def test_the_functions_of_the_package_are_kept() -> None:
    """What is compiled by each process anew would cost every command its seconds again."""
    for name in ("model.kernel", "model.zones", "model.score.ranks", "views.grid", "api.encode"):
        file = sys.modules.get(f"heatmap_pipeline.{name}") or importlib.import_module(f"heatmap_pipeline.{name}")
        functions = [value for value in vars(file).values() if hasattr(value, "py_func")]
        assert functions, name


def test_linear_algebra_is_not_loaded_for_what_has_none(tmp_path: Path) -> None:
    """A quarter of a second in every process, if numba asks for it; where its names change, this says so."""
    assert loaded(tmp_path)(3) == 6
    arrays, linalg = (importlib.import_module(f"numba.np.{name}") for name in ("arraymath", "linalg"))
    assert arrays._HAVE_BLAS is False
    assert linalg.ensure_blas is not module._no_blas, "what has products of matrices is told the truth"
