"""The command in processes that die when they are told to: `Forks` runs it, as a script this file is what it talks to.

That process imports everything once and forks for each command, so a run that is killed costs a second, not five. The
fork is an ordinary process that runs `heatmap`; nothing of it survives its SIGKILL.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import resource
import select
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

from heatmap_pipeline.settings import SCRATCH
from heatmap_pipeline.store import instances
from heatmap_pipeline_tests._homes import done, load_no_picture, work_little
from heatmap_pipeline_tests.orchestration import light as lightly
from heatmap_pipeline_tests.orchestration.clocked import follow
from heatmap_pipeline_tests.orchestration.homes import BTC, day, write_archive

_LONGEST = 180.0
"""Seconds after which a command hangs."""

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_ON_PATHS = {"os.rename", "os.remove", "os.link", "os.mkdir", "os.chmod"}


@dataclass(frozen=True)
class Death:
    """When a process dies.

    Attributes:
        kind: of step: 'download', 'publication', 'page', 'history', 'warehouse' or 'home' (a file there is opened for
            writing, renamed, removed), 'body' (a piece of an answer is taken), 'in place' (an older publication is
            changed), 'store' (something is asked of HEATMAP_STORE, or was; also by its name, as 'swap'), or a table
            (it is filled); '' is the start of the process.
        step: which step of that kind, the first is 1.
        delay: None: right before the step; else so many seconds after it, wherever the process is then.
        longest: bytes that no file may exceed: the write that tries ends the process, part of it done.
    """

    kind: str = ""
    step: int = 1
    delay: float | None = None
    longest: int | None = None


@dataclass(frozen=True)
class Ended:
    """How a command ended: exit code (negative: the signal), what it printed, how many steps of each kind it took.

    `processor` are the seconds of processor time that it took.
    """

    code: int
    stdout: str
    stderr: str
    steps: Mapping[str, int]
    processor: float = 0.0

    @property
    def killed(self) -> bool:
        return self.code < 0

    def ok(self) -> Ended:
        assert self.code == 0, (self.code, self.stderr)
        return self


class Forks:
    """Runs the command, each time in a process of its own; to be used as a context manager.

    Args:
        folder: for what the commands print.
        clock: file of the clock that they go by (`clocked.py`); None is this machine's.
    """

    def __init__(self, folder: Path, clock: Path | None = None) -> None:
        self._folder = folder
        self.stderr = folder / "stderr"
        """What the command that runs, or ran last, has printed there."""
        environment = {name: value for name, value in os.environ.items() if not _is_ours(name)}
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(folder), *([] if clock is None else [str(clock)])],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Forks:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=_LONGEST)

    def heatmap(
        self,
        *arguments: object,
        death: Death | None = None,
        draw: bool = False,
        in_place: bool = False,
        light: bool = False,
        longest: int | None = None,
        **variables: object,
    ) -> Ended:
        """Run the command with this process's HEATMAP_* and AWS_* variables, and `variables`.

        Args:
            arguments: of the command; `--home` is among them.
            death: when it dies, if it does.
            draw: whether it draws pictures, which takes longer than everything else of a small run.
            in_place: whether an older publication is brought up to date also where the file is small.
            light: whether its runs are those of `light.py`, without Dagster, which is most of a small run.
            longest: bytes that no file may exceed: the write that tries fails, as on a full disk.
            variables: of its environment.
        """
        own = {name: value for name, value in os.environ.items() if name.startswith(("HEATMAP_", "AWS_"))}
        request = {
            "arguments": [str(argument) for argument in arguments],
            "environment": {**own, **{name: str(value) for name, value in variables.items()}},
            "death": None if death is None else asdict(death),
            "draw": draw,
            "in_place": in_place,
            "light": light,
            "longest": longest,
        }
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        out, err = ((self._folder / name).read_text() for name in ("stdout", "stderr"))
        assert not answer["hung"], f"{arguments} did not end within {_LONGEST:g} s: {err}"
        return Ended(answer["code"], out, err, Counter(answer["steps"]), answer["processor"])


def _is_ours(name: str) -> bool:
    return name.startswith("HEATMAP_") or name == "DAGSTER_HOME"


# -- the process that forks


def serve(folder: Path, requests: Iterator[str], clock: Path | None = None) -> None:
    """Answer each line that asks for a command by a line that says how it ended."""
    _import_everything()
    gc.collect()
    gc.freeze()  # a fork that looked through all of it for garbage would copy it
    if clock is not None:
        follow(clock, "heatmap_pipeline")
    for line in requests:
        request = json.loads(line)
        death = None if request["death"] is None else Death(**request["death"])
        reader, writer = os.pipe()
        child = os.fork()  # what threads there are wait for work, and their libraries know of forks
        if child == 0:
            os.close(reader)
            os._exit(_command(folder, request, death, writer))
        os.close(writer)
        hung, steps = _watch(child, reader, death)
        os.close(reader)
        _, status, usage = os.wait4(child, 0)
        answer = {"code": os.waitstatus_to_exitcode(status), "hung": hung, "steps": steps}
        answer["processor"] = usage.ru_utime + usage.ru_stime
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def _import_everything() -> None:
    import pandas as pd

    import heatmap_pipeline.chain.due
    import heatmap_pipeline.chain.status
    import heatmap_pipeline.cli
    import heatmap_pipeline.definitions
    import heatmap_pipeline.market.binance
    import heatmap_pipeline.orchestration.processes  # noqa: F401
    from heatmap_pipeline.model.heatmap import calculate_time_evolving_heatmap
    from heatmap_pipeline.orchestration import jobs
    from heatmap_pipeline.orchestration.build import build_defs
    from heatmap_pipeline.orchestration.instance import open_history
    from heatmap_pipeline.orchestration.runs import prepare_home
    from heatmap_pipeline.settings import load_settings
    from heatmap_pipeline.store.schema import symbol_tables

    candle = pd.DataFrame({"open_time": pd.to_datetime(["2024-01-01"])})
    candle[["open", "high", "low", "close", "volume"]] = 100.0
    calculate_time_evolving_heatmap(candle, [1.0])  # loads the compiled engine
    symbol_tables()
    with tempfile.TemporaryDirectory() as home:
        _run_once(Path(home))
        settings = load_settings(home=Path(home))
        with open_history(prepare_home(settings)):
            build_defs(settings).resolve_job_def(jobs.NAME)
    del os.environ["DAGSTER_HOME"]


def _run_once(home: Path) -> None:
    """Run two days in this process: what a run makes when it first needs it, every fork would make anew.

    It is a light run, as a run of Dagster spares the forks no more.
    """
    with pytest.MonkeyPatch.context() as patch:
        work_little(patch)
        files = write_archive(home / "archive", 2, BTC)
        done("run", BTC, "--archive", files, "--start", day(1), "--end", day(2), "--home", home)
    instances._waiting.clear()  # a DuckDB has threads, and no fork has them


def _watch(child: int, reader: int, death: Death | None) -> tuple[bool, dict[str, int]]:
    """Wait until the child has ended, kill it when it asks for that; return whether it hung, and its steps."""
    end = time.monotonic() + _LONGEST
    said = b""
    while select.select([reader], [], [], max(0.0, end - time.monotonic()))[0]:
        block = os.read(reader, 65536)
        if not block:
            return False, json.loads(said or b"{}")
        if block.startswith(b"!"):
            assert death is not None
            time.sleep(death.delay or 0.0)
            os.kill(child, signal.SIGKILL)
        said += block.removeprefix(b"!")
    os.kill(child, signal.SIGKILL)
    return True, {}


# -- the process that dies


def _command(folder: Path, request: dict[str, Any], death: Death | None, writer: int) -> int:
    """Run the command with its output in files; tell the parent the steps it took; return the exit code."""
    for number, name in ((0, os.devnull), (1, folder / "stdout"), (2, folder / "stderr")):
        flags = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        os.dup2(os.open(name, flags, 0o644), number)
    sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
    os.environ.update(request["environment"])
    arguments = request["arguments"]
    steps = _Steps(Path(arguments[arguments.index("--home") + 1]), death, writer)
    code = 70
    if request["longest"] is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (request["longest"], request["longest"]))
    try:
        _plant(steps, draw=request["draw"], in_place=request["in_place"])
        if request["light"]:
            lightly.run_lightly(pytest.MonkeyPatch())
            if not request["draw"]:
                load_no_picture(pytest.MonkeyPatch())
        from heatmap_pipeline.cli import main

        steps("")
        main(arguments, prog_name="heatmap")
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:  # whatever it is, the one who asked shall see it
        traceback.print_exc()
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os.write(writer, json.dumps(steps.counts).encode())
    return code


class _Steps:
    """Counts what the process does and ends it at the step it was told; the threads of a download share it."""

    def __init__(self, home: Path, death: Death | None, writer: int) -> None:
        self.counts: Counter[str] = Counter()
        self._home = f"{home}/"
        self._death = death
        self._writer = writer

    def __call__(self, kind: str) -> None:
        self.counts[kind] += 1
        death = self._death
        if death is None or kind != death.kind or self.counts[kind] != death.step:
            return
        if death.longest is not None:
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # Python ignores it, and would see an error instead
            resource.setrlimit(resource.RLIMIT_FSIZE, (death.longest, death.longest))
        elif death.delay is not None:
            os.write(self._writer, b"!")
        else:
            os.kill(os.getpid(), signal.SIGKILL)

    def hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Count what changes a file of the home, as Python's audit events tell it before it happens."""
        changes = bool(arguments[2] & _WRITING) if event == "open" else event in _ON_PATHS
        if changes and isinstance(arguments[0], str | Path):
            path = str(arguments[0])
            if path.startswith(self._home):
                self(_kind_of(path.removeprefix(self._home)))


def _kind_of(name: str) -> str:
    parts = name.split("/")
    top = parts[2] if parts[0] == SCRATCH and len(parts) > 2 else parts[0]
    kinds = {"archive": "download", "renders": "page", "dagster": "history"}
    if top.startswith(("heatmap.", ".heatmap.")) and not top.startswith("heatmap.lock"):
        return "publication"
    return "warehouse" if top == "warehouse" and name.endswith(".holder") else kinds.get(top, "home")


def _plant(steps: _Steps, *, draw: bool, in_place: bool) -> None:
    """Make steps of what Python's audit events do not tell; leave the pictures away unless they are wanted."""
    from heatmap_pipeline.chain import compute
    from heatmap_pipeline.market.web import Reply
    from heatmap_pipeline.render import page, picture
    from heatmap_pipeline.store import commit, publish, raw, spare
    from heatmap_pipeline.store.bucket import Bucket

    sys.addaudithook(steps.hear)
    blocks = Reply.blocks

    def pieces(reply: Reply, limit: int) -> Iterator[bytes]:
        for block in blocks(reply, limit):
            for start in range(0, len(block), 8192):
                steps("body")
                yield block[start : start + 8192]

    def counted(module: Any, name: str, kind: str) -> None:
        do = getattr(module, name)

        def count(first: Any, *rest: Any, **more: Any) -> Any:
            steps(kind or rest[0])
            return do(first, *rest, **more)

        setattr(module, name, count)

    def before_and_after(name: str) -> None:
        do = getattr(Bucket, name)

        def count(*arguments: Any) -> Any:
            for step in ("store", name):
                steps(step)
            answer = do(*arguments)
            for step in ("store", name):
                steps(step)
            return answer

        setattr(Bucket, name, count)

    for name in ("read", "fetch", "write", "swap", "entries", "remove"):
        before_and_after(name)
    setattr(Reply, "blocks", pieces)  # noqa: B010
    setattr(compute, "_FLUSH_SECONDS", -1.0)  # noqa: B010  # each day for itself, so that one can die between two
    counted(raw, "insert", "")
    counted(commit, "insert_parts", "")
    for name in ("_written", "_sync"):
        counted(publish, name, "publication")
    counted(spare, "bring_up_to_date", "in place")
    if in_place:
        setattr(spare, "MINIMUM", 0)  # noqa: B010
    if not draw:
        setattr(page, "write_page", lambda *_: None)  # noqa: B010
        setattr(picture, "small_png", lambda *_: b"")  # noqa: B010


if __name__ == "__main__":
    serve(Path(sys.argv[1]), iter(sys.stdin), *map(Path, sys.argv[2:3]))
