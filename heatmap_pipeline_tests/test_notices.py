"""Notices: what a webhook is sent, once per failure, whatever the webhook does."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heatmap_pipeline import notices
from heatmap_pipeline.notices import Failure, Notice, announce, deliver, repairing, told_failed
from heatmap_pipeline.settings import Settings, load_settings
from heatmap_pipeline_tests._disk import small_files
from heatmap_pipeline_tests._webhook import Webhook, listening

AGAIN = "heatmap run BTCUSDT --start 2024-03-01 --end 2024-03-02"
NOTICE = Notice("failed", "run-1", [Failure("BTCUSDT", "no file\nthere", "2024-03-01", "raw_candles")], AGAIN)


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Webhook]:
    monkeypatch.setattr(notices, "BACKOFF", 0.01)
    with listening() as running:
        yield running


@pytest.fixture
def settings(hook: Webhook, tmp_path: Path) -> Settings:
    return load_settings(home=tmp_path / "home", webhook=hook.url)


def test_the_body_is_one_that_slack_and_discord_take_with_our_own_fields() -> None:
    body = NOTICE.body()
    line = f"heatmap: BTCUSDT failed at raw_candles, day 2024-03-01: no file there -> {AGAIN}"
    assert body["text"] == line.replace(">", "&gt;"), "Slack wants &, < and > escaped"
    assert body["content"] == line
    assert body["allowed_mentions"] == {"parse": []}
    assert (body["kind"], body["run_id"], body["command"]) == ("failed", "run-1", AGAIN)
    assert (body["symbol"], body["day"], body["stage"]) == ("BTCUSDT", "2024-03-01", "raw_candles")
    assert [failure["symbol"] for failure in body["failures"]] == ["BTCUSDT"]


@given(st.lists(st.builds(Failure, st.text(max_size=40), st.text(max_size=4000)), min_size=1, max_size=5))
def test_the_line_is_one_line_short_enough_for_discord_and_ends_with_the_command(failures: list[Failure]) -> None:
    body = Notice("failed", "r", failures, AGAIN).body()
    assert 0 < len(body["content"]) <= 2000
    assert body["content"].endswith(f" -> {AGAIN}")


@pytest.mark.parametrize(
    ("cause", "command"),
    [
        ("fill the gap with `heatmap run A --start 1 --end 2` first", "heatmap run A --start 1 --end 2"),
        ("do `mv /a/b /c && heatmap run A`; until then", "mv /a/b /c && heatmap run A"),
        ("see `heatmap ui`", AGAIN),
        ("no file", AGAIN),
    ],
)
def test_the_command_is_what_the_cause_says_else_the_given_one(cause: str, command: str) -> None:
    assert repairing([Failure("A", cause)], AGAIN) == command


def test_a_failure_is_told_once_and_another_of_its_kind_again(hook: Webhook, settings: Settings) -> None:
    for _ in range(3):
        announce(settings, NOTICE)
    announce(settings, Notice("killed", "run-1", NOTICE.failures, AGAIN))
    announce(settings, Notice("failed", "run-2", NOTICE.failures, AGAIN))
    assert [(body["kind"], body["run_id"]) for body in hook.bodies] == [
        ("failed", "run-1"),
        ("killed", "run-1"),
        ("failed", "run-2"),
    ]


def test_several_who_notice_the_same_at_once_tell_it_once(hook: Webhook, settings: Settings) -> None:
    threads = [Thread(target=announce, args=(settings, NOTICE)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(hook.bodies) == 1


@pytest.mark.parametrize("look", ["stat", "read_bytes"])
def test_what_another_sends_between_two_looks_is_told_once(
    hook: Webhook, settings: Settings, monkeypatch: pytest.MonkeyPatch, look: str
) -> None:
    """The other one has written down the same and delivers it while this one looks whether it is written down."""
    hook.answers = [404]
    announce(settings, NOTICE)
    (waiting,) = (settings.home / "notices").glob("*.waiting")
    looking = getattr(Path, look)

    def delivered_before(path: Path, **more: bool) -> object:
        if path == waiting:
            monkeypatch.undo()
            deliver(settings)
            assert not waiting.exists()
        return looking(path, **more)

    is_file = Path.is_file

    def seen(path: Path) -> bool:
        there = is_file(path)
        if path == waiting:
            monkeypatch.setattr(Path, look, delivered_before)
        return there

    monkeypatch.setattr(Path, "is_file", seen)
    announce(settings, NOTICE)
    assert len(hook.bodies) == 1


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_webhook_that_is_busy_is_asked_again_soon(hook: Webhook, settings: Settings, status: int) -> None:
    hook.answers = [status] * (notices.TRIES - 1)
    begin = time.monotonic()
    announce(settings, NOTICE, pytest.fail)
    assert time.monotonic() - begin < 5, "an hour of Retry-After is not waited for"
    assert (hook.asked, len(hook.bodies)) == (notices.TRIES, 1)


@pytest.mark.parametrize("status", [302, 400, 404, 503])
def test_what_is_not_taken_is_logged_without_the_address_and_sent_later_in_order(
    hook: Webhook, settings: Settings, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    hook.answers = [status] * notices.TRIES
    announce(settings, NOTICE)
    assert f"HEATMAP_WEBHOOK did not take a notice (status {status} of 127.0.0.1)" in caplog.text
    assert "s3cret" not in caplog.text
    assert hook.bodies == []
    hook.answers = []
    announce(settings, Notice("failed", "run-2", NOTICE.failures, AGAIN))
    assert [body["run_id"] for body in hook.bodies] == ["run-1", "run-2"]
    announce(settings, NOTICE)
    deliver(settings)
    assert len(hook.bodies) == 2


def test_many_notices_that_are_not_taken_do_not_keep_a_command(
    hook: Webhook, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    announce(settings, NOTICE)
    (sent,) = (settings.home / "notices").glob("*.sent")
    for number in range(50):
        sent.with_name(f"{number}.waiting").write_bytes(b"{}")
    monkeypatch.setattr(notices, "DEADLINE", 0.2)
    hook.answers = [500] * 1000
    begin = time.monotonic()
    deliver(settings)
    assert time.monotonic() - begin < 2
    assert hook.asked < 100
    monkeypatch.setattr(notices, "DEADLINE", 20.0)
    hook.answers = []
    deliver(settings)
    assert len(list(sent.parent.glob("*.waiting"))) == 0


def test_nobody_at_the_address_is_logged_and_waits(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nobody = settings.model_copy(update={"webhook": f"http://127.0.0.1:{closed.getsockname()[1]}/s3cret"})
        announce(nobody, NOTICE)
    assert "ConnectionError at 127.0.0.1" in caplog.text
    assert "s3cret" not in caplog.text
    assert [path.suffix for path in (settings.home / "notices").glob("*-*")] == [".waiting"]


def test_a_webhook_that_drips_its_answer_is_left_at_the_deadline(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(notices, "DEADLINE", 1.0)

    def drip(server: socket.socket) -> None:
        while True:
            try:
                connection = server.accept()[0]
                for _ in range(200):
                    connection.sendall(b"X")
                    time.sleep(0.1)
            except OSError:
                if server.fileno() < 0:
                    return

    with socket.create_server(("127.0.0.1", 0)) as server:
        Thread(target=drip, args=(server,), daemon=True).start()
        begin = time.monotonic()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        announce(settings.model_copy(update={"webhook": url}), NOTICE)
        assert time.monotonic() - begin < 5
    assert "HEATMAP_WEBHOOK did not take a notice" in caplog.text


def test_where_nothing_can_be_written_it_is_sent_all_the_same(hook: Webhook, tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file where the home should be, as a disk that takes nothing")
    announce(load_settings(home=tmp_path / "home", webhook=hook.url), NOTICE, pytest.fail)
    assert len(hook.bodies) == 1


def test_on_a_full_disk_it_is_remembered_that_it_was_sent(
    hook: Webhook, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    assert not told_failed(settings, NOTICE.run_id)
    with monkeypatch.context() as patch:
        patch.setattr(notices, "replace_file", full)
        announce(settings, NOTICE)
    announce(settings, NOTICE)
    assert hook.kinds() == ["failed"]
    assert told_failed(settings, NOTICE.run_id)
    assert not told_failed(settings, "run-2")


def test_old_notices_are_forgotten(hook: Webhook, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that was never taken is given up after another try; of the newest it stays known that they were sent."""
    folder = settings.home / "notices"
    for number in range(4):
        announce(settings, Notice("failed", f"run-{number}", NOTICE.failures, AGAIN))
    hook.answers = [400] * 3
    announce(settings, Notice("failed", "never", NOTICE.failures, AGAIN))
    deliver(settings)
    assert (folder / "failed-never.waiting").exists()
    for path in folder.glob("*-*"):
        os.utime(path, (time.time() - 91 * 86400 + int(path.stat().st_mtime_ns % 10**9) / 1e9,) * 2)
    os.utime(folder / "failed-run-3.sent", (time.time() - 90.5 * 86400,) * 2)
    (folder / ".failed-x.waiting.1.1.tmp").write_text("a killed process was writing it")
    os.utime(folder / ".failed-x.waiting.1.1.tmp", (0, 0))
    monkeypatch.setattr(notices, "_REMEMBERED", 1)
    taken = len(hook.bodies)
    deliver(settings)
    assert [path.name for path in folder.iterdir() if path.name != "lock"] == ["failed-run-3.sent"]
    assert len(hook.bodies) == taken


@pytest.mark.parametrize("jump", [-4000, -8, 8, 91, 4000], ids=lambda days: f"{days} days")
def test_a_clock_that_jumps_loses_no_notice_and_tells_none_twice(
    hook: Webhook, settings: Settings, monkeypatch: pytest.MonkeyPatch, jump: int
) -> None:
    announce(settings, NOTICE)
    hook.answers = [503] * notices.TRIES
    announce(settings, Notice("failed", "run-2", NOTICE.failures, AGAIN))
    other = SimpleNamespace(**{**vars(time), "time": lambda: time.time() + jump * 86400})
    with monkeypatch.context() as patch:
        patch.setattr(notices, "time", other)
        deliver(settings)
        announce(settings, NOTICE)
    deliver(settings)
    assert [body["run_id"] for body in hook.bodies] == ["run-1", "run-2"]
    for number in (1, 2):
        announce(settings, Notice("failed", f"run-{number}", NOTICE.failures, AGAIN))
    assert [body["run_id"] for body in hook.bodies] == ["run-1", "run-2"]


def test_a_disk_that_is_full_when_the_notice_is_written(
    hook: Webhook, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    other = Notice("failed", "run-2", NOTICE.failures, AGAIN)
    with small_files(10):
        announce(settings, NOTICE)
        hook.answers = [400]
        announce(settings, other)
    assert "it could not be kept for later" in caplog.text
    assert other.text in caplog.text, "the log is all that is left to tell of it"
    for notice in (NOTICE, other, NOTICE, other):
        announce(settings, notice)
    assert [body["run_id"] for body in hook.bodies] == ["run-1", "run-2"]
    assert sorted(path.suffix for path in (settings.home / "notices").glob("*.*")) == [".sent", ".sent"]


_DYING = """
import itertools, os, signal, sys
from pathlib import Path
import requests, heatmap_pipeline.market.watchdog
from heatmap_pipeline import notices
from heatmap_pipeline.settings import load_settings
for step in itertools.count(1):
    home = Path(sys.argv[1], f"run-{step}")
    child = os.fork()
    if child:
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(code)
        if code == 0:
            break
        continue
    count = 0
    def hear(event, arguments):
        global count
        written = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if written or event in ("os.mkdir", "os.rename", "os.remove", "socket.connect"):
            count += event == "socket.connect" or str(home) in str(arguments[0])
            if count == step:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(hear)
    notice = notices.Notice("failed", home.name, [notices.Failure("A", "b")], "heatmap refresh")
    notices.announce(load_settings(home=home, webhook=sys.argv[2]), notice)
    os._exit(0)
"""
"""In a new home each, a process that dies right before the first, the second, ... step, until one lives."""


def test_a_process_that_dies_at_any_step_tells_it_once_and_at_worst_twice(hook: Webhook, settings: Settings) -> None:
    """A file is written and renamed, a lock taken, the webhook called, the file renamed again."""
    command = [sys.executable, "-c", _DYING, str(settings.home), hook.url]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    codes = [int(line) for line in ended.stdout.split()]
    assert codes == [-signal.SIGKILL] * (len(codes) - 1) + [0]
    assert len(codes) > 7
    names = [f"run-{step + 1}" for step in range(len(codes))]
    taken = [body["run_id"] for body in hook.bodies]
    assert taken == names[-2:], "the last that died had not yet renamed the file"
    for name in names:
        of_run = settings.model_copy(update={"home": settings.home / name})
        for _ in range(2):
            announce(of_run, Notice("failed", name, NOTICE.failures, AGAIN))
    count = Counter(body["run_id"] for body in hook.bodies)
    assert count == {**dict.fromkeys(names, 1), names[-2]: 2}


def test_without_a_webhook_nothing_is_kept(tmp_path: Path) -> None:
    settings = load_settings(home=tmp_path)
    announce(settings, NOTICE, pytest.fail)
    deliver(settings, pytest.fail)
    assert list(tmp_path.iterdir()) == []
