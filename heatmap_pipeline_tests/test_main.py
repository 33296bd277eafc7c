"""The command as a process of its own: it leaves at once, and says and ends with what it would anyhow."""

from __future__ import annotations

import gc
import os
import subprocess
import sys

import pytest

from heatmap_pipeline.cli.options import collecting_seldom

_PROGRAM = """
import atexit, os, sys
from heatmap_pipeline import __main__ as program, cli

class Late:
    def __del__(self):
        os.write(2, b"taken apart ")

late = Late()

def main(prog_name):
    atexit.register(print, "ended")
    print("said", end=" ")
    {ends}

cli.main = main
program.command()
"""


def _ran(ends: str, **streams: int) -> subprocess.CompletedProcess[str]:
    asked = {"stdout": subprocess.PIPE, **streams}
    program = [sys.executable, "-c", _PROGRAM.format(ends=ends)]
    keeping = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return subprocess.run(program, stderr=subprocess.PIPE, text=True, check=False, env=keeping, **asked)  # type: ignore[call-overload, no-any-return]


@pytest.mark.parametrize("code", [0, 1, 2])
def test_it_leaves_when_all_is_said_and_done(code: int) -> None:
    ran = _ran(f"sys.exit({code})")
    assert (ran.returncode, ran.stdout, ran.stderr) == (code, "said ended\n", "")


def test_an_error_that_nobody_expected_ends_as_ever() -> None:
    ran = _ran("raise KeyError('gone')")
    assert (ran.returncode, ran.stdout) == (1, "said ended\n")
    assert "KeyError: 'gone'\n" in ran.stderr
    assert "taken apart" in ran.stderr


def test_what_nobody_reads_is_told_as_ever() -> None:
    with open("/dev/full", "wb") as full:  # noqa: PTH123
        ran = _ran("sys.exit(0)", stdout=full.fileno())
    assert ran.returncode == 120  # Python's own code for an output that could not be written
    assert "OSError" in ran.stderr


def test_garbage_is_looked_for_seldom_while_a_verb_computes_and_as_before_after_it() -> None:
    before = gc.get_threshold()
    with collecting_seldom():
        assert gc.isenabled()
        assert gc.get_threshold()[0] > before[0]
    assert gc.get_threshold() == before
