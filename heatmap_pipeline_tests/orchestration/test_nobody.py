"""As a user that nobody knows, really: no name, no HOME, nothing of the checkout to be written, as in a container."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import heatmap_pipeline
from heatmap_pipeline.settings import Settings
from heatmap_pipeline_tests.orchestration.homes import BTC, copy_home, day

NOBODY = 54321
_READS = "+dac_read_search"  # the checkout and the interpreter, wherever they lie; it writes nothing of others

_LIBRARIES = """
import sys
from pathlib import Path
from heatmap_pipeline.surroundings import settle
settle(Path(sys.argv[1]))
from heatmap_pipeline.model.buckets import bucket_number  # the one that is compiled soonest
print(bucket_number(1999, 1000, 0))
if sys.argv[2:]:
    from matplotlib.figure import Figure
    Figure().savefig(sys.argv[2])
"""

_COMMANDS = """
import sys
from click.testing import CliRunner
from heatmap_pipeline.cli import main
for line in sys.argv[1:]:
    result = CliRunner().invoke(main, line.split())
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    print(result.exit_code, (result.output.strip().splitlines() or [""])[-1])
"""


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that everybody may enter, which those of pytest are not."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def as_nobody(program: str, *arguments: object, cwd: Path, **variables: object) -> subprocess.CompletedProcess[str]:
    """Run a program of this interpreter as that user."""
    setpriv = shutil.which("setpriv")
    if setpriv is None or os.geteuid() != 0:
        pytest.skip("only root with setpriv can run something as another user")
    prefix = [setpriv, "--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups"]
    prefix += ["--inh-caps", _READS, "--ambient-caps", _READS]
    if subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("this container does not let root become a user that may read everything")
    checkout = Path(heatmap_pipeline.__file__).parents[1]
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(checkout)}
    return subprocess.run(
        [*prefix, sys.executable, "-c", program, *map(str, arguments)],
        env=environment | {name: str(value) for name, value in variables.items()},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.slow
def test_what_libraries_keep_goes_to_the_home(place: Path) -> None:
    home, elsewhere = place / "home", place / "elsewhere"
    for folder in (home, elsewhere):
        folder.mkdir()
        os.chown(folder, NOBODY, NOBODY)  # where something is written that should not be, it is found
    ran = as_nobody(_LIBRARIES, home, home / "picture.png", cwd=elsewhere)
    assert (ran.returncode, ran.stderr) == (0, ""), "no error, no notice"
    assert ran.stdout == "1\n"
    compiled = {path.name.rpartition("-")[0] for path in (home / "cache" / "numba").rglob("*.nbi")}
    assert compiled == {"buckets.bucket_number"}
    assert list((home / "cache").rglob("fontlist*.json"))
    assert list(elsewhere.iterdir()) == [], "no folder that is called ~"
    os.chown(home, 0, 0)  # now it may only read its home, without anything of a cache
    shutil.rmtree(home / "cache")
    ran = as_nobody(_LIBRARIES, home, cwd=elsewhere)
    assert (ran.returncode, ran.stdout) == (0, "1\n"), ran.stderr
    assert ran.stderr.startswith("compiled code cannot be kept")
    assert ran.stderr.count("\n") == 1


@pytest.mark.slow
def test_a_home_that_can_only_be_read_is_read_and_anything_else_says_so(place: Path, finished: Settings) -> None:
    home = copy_home(finished.home, place / "home")
    days = f"--start {day(1)} --end {day(1)}"
    refused = ["demo --days 1", f"run {BTC} --source demo {days}", "refresh", f"record {BTC}", f"forget {BTC} --yes"]
    refused += [f"backup {place / 'backups'}"]
    lines = ["status", *refused, "ui --port 39217", "score", "--version"]
    (place / "backups").mkdir()
    os.chown(place / "backups", NOBODY, NOBODY)
    before = {path: path.stat().st_mtime_ns for path in home.rglob("*")}
    said = as_nobody(_COMMANDS, *lines, cwd=place, HEATMAP_HOME=home, HEATMAP_SYMBOLS=BTC)
    assert said.returncode == 0, said.stderr
    answers = dict(zip(lines, said.stdout.splitlines(), strict=True))
    assert answers.pop("--version").startswith("0 ")
    said_last = answers.pop("status")
    assert said_last.startswith("0 "), said_last
    assert said_last.endswith(" to look at"), "as far as its last line"
    assert answers.pop("score").startswith("1 heatmap: "), "no liquidations are stored; to say so it reads what is"
    for line, answer in answers.items():
        assert answer.startswith("1 heatmap: "), (line, answer)
        places = f"home {home} cannot be written", str(home / "recordings"), f"{home / 'run.lock'} cannot be locked"
        assert any(place in answer for place in places), (line, answer)
    assert {path: path.stat().st_mtime_ns for path in home.rglob("*")} == before, "nothing is written or left there"
