"""Every failed run reaches the webhook, once: of the command line or of Dagster, killed, not started, none at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from heatmap_pipeline import notices
from heatmap_pipeline.errors import HeatmapError
from heatmap_pipeline.orchestration.build import build_defs
from heatmap_pipeline.orchestration.instance import open_history
from heatmap_pipeline.orchestration.partitions import LAUNCHED_HERE, range_tags
from heatmap_pipeline.orchestration.runs import (
    close_killed_runs,
    close_killed_runs_of_the_ui,
    look_back,
    prepare_home,
    wait_for_runs_of_the_ui,
)
from heatmap_pipeline.orchestration.sensors import FAILURES, IDLE_DAYS
from heatmap_pipeline.orchestration.told import (
    SYMBOLS_TAG,
    noted,
    notes_left,
    notice_of_run,
    tell_of_idle_days,
    tell_of_killed_commands,
)
from heatmap_pipeline.orchestration.turns import RunError
from heatmap_pipeline.settings import Settings, load_settings
from heatmap_pipeline.store.warehouse import Warehouse
from heatmap_pipeline_tests._homes import as_if_yesterday_were, done, heatmap, last_line
from heatmap_pipeline_tests._webhook import Webhook, listening
from heatmap_pipeline_tests.orchestration.homes import BTC, ETH, break_file, candles_file, day, real
from heatmap_pipeline_tests.orchestration.killed import Death, Forks
from heatmap_pipeline_tests.orchestration.light import light_runs


@pytest.fixture(autouse=True)
def _one_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEATMAP_MODELS", "delta")


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Webhook]:
    monkeypatch.setattr(notices, "BACKOFF", 0.01)
    with listening() as running:
        monkeypatch.setenv("HEATMAP_WEBHOOK", running.url)
        yield running


@pytest.fixture
def broken(archive: Path, tmp_path: Path) -> Path:
    """Files of which that of day 2 is damaged."""
    files = Path(shutil.copytree(archive, tmp_path / "files"))
    break_file(candles_file(files, 2))
    return files


def run(files: Path, home: Path, *symbols: str) -> list[object]:
    return ["run", *symbols, "--archive", files, "--start", day(1), "--end", day(3), "--home", home]


# -- the command line


@pytest.mark.usefixtures("light_commands")
def test_a_command_that_fails_is_told_once_with_day_stage_and_the_command(
    hook: Webhook, broken: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    failed = heatmap(*run(broken, home, BTC, ETH))
    last_line(failed.stderr, 1)
    (body,) = hook.bodies
    assert (body["kind"], body["symbol"], body["day"], body["stage"]) == ("failed", BTC, str(day(2)), "raw_candles")
    assert body["cause"] in failed.stderr
    assert [failure["symbol"] for failure in body["failures"]] == [BTC], "the other one was published"
    assert body["command"].startswith(f"heatmap run {BTC} {ETH} --start {day(1)} --end {day(3)}")
    heatmap(*run(broken, home, BTC))
    assert len({body["run_id"] for body in hook.bodies}) == len(hook.bodies) == 2, "it failed again"


def test_a_command_that_is_refused_is_told_with_the_command_that_the_refusal_names(
    hook: Webhook, home: Path, archive: Path
) -> None:
    heatmap("run", BTC, "--archive", archive, "--start", day(8), "--end", day(9), "--home", home)
    (body,) = hook.bodies
    assert (body["kind"], body["symbol"]) == ("failed", BTC)
    assert body["command"].startswith(f"heatmap run {BTC} --start {day(6)} --end {day(7)}")


def test_a_command_that_never_came_to_a_run_is_told(hook: Webhook, archive: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "dagster").write_text("a file where a folder should be")
    for folder, cause in ((home, "cannot be written"), (home / "dagster" / "home", "cannot be made")):
        failed = heatmap(*run(archive, folder, BTC))
        assert failed.exit_code == 1
        assert cause in hook.bodies[-1]["cause"]
    assert len(hook.bodies) == 2


def test_an_error_that_nobody_foresaw_is_told_and_raised(
    hook: Webhook, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def defect(*_: object) -> Any:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr("heatmap_pipeline.orchestration.runs.stored_spans", defect)
    with pytest.raises(ZeroDivisionError):
        heatmap(*run(archive, tmp_path / "home", BTC))
    assert [body["cause"] for body in hook.bodies] == ["ZeroDivisionError: a defect (unexpected)"]


def test_a_command_that_is_stopped_before_its_run_is_told(
    hook: Webhook, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("heatmap_pipeline.orchestration.runs.stored_spans", stop)
    assert heatmap(*run(archive, tmp_path / "home", BTC)).exit_code == 1
    assert [body["cause"] for body in hook.bodies] == ["the command was stopped"]


def test_the_command_that_asks_for_corrected_files_is_told_as_it_was(
    hook: Webhook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> Any:
        raise HeatmapError("the archive cannot be asked")

    monkeypatch.setattr("heatmap_pipeline.orchestration.runs.stored_spans", refuse)
    heatmap("run", BTC, "--check-files", day(1), day(3), "--source", "binance", "--home", tmp_path / "home")
    (body,) = hook.bodies
    assert body["command"].startswith(f"heatmap run {BTC} --check-files {day(1)} {day(3)} --source binance")


@pytest.mark.usefixtures("light_commands")
def test_a_command_that_succeeds_tells_nothing(hook: Webhook, archive: Path, tmp_path: Path) -> None:
    done(*run(archive, tmp_path / "home", BTC))
    assert hook.asked == 0


@pytest.mark.usefixtures("light_commands")
def test_a_webhook_that_takes_nothing_changes_nothing_of_the_command(
    hook: Webhook, broken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook.answers = [500] * 100
    failed = heatmap(*run(broken, tmp_path / "one", BTC))
    monkeypatch.delenv("HEATMAP_WEBHOOK")
    without = heatmap(*run(broken, tmp_path / "two", BTC))
    assert failed.exit_code == without.exit_code == 1
    assert last_line(failed.stderr, 1) == last_line(without.stderr, 1)
    assert failed.stdout.replace("/one/", "/two/") == without.stdout


# -- killed


@pytest.mark.slow
def test_a_command_that_was_killed_is_told_by_the_next_one_or_by_the_ui(
    hook: Webhook, forks: Forks, archive: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    # Before its run stands in Dagster's history: the note of it is in its place, the temporary file not yet gone.
    for death in (Death("history", 11), Death("position_events", 1), Death("position_events", 2)):
        assert forks.heatmap(*run(archive, home, BTC), death=death).killed
        (note,) = (home / "dagster").glob("command-*.json")
    before, first = hook.bodies  # each told by the next
    assert (before["kind"], before["symbol"]) == ("killed", BTC)
    assert "the process of the command was killed outside of a run" in before["text"]
    assert before["command"] == f"heatmap run {BTC} --start {day(1)} --end {day(3)} --archive {archive} --home {home}"
    settings = real(home, archive)
    for _ in range(2):
        close_killed_runs(settings)
    *_, second = hook.bodies
    assert len(hook.bodies) == 3
    assert not note.exists()
    assert (first["kind"], second["kind"]) == ("killed", "killed")
    assert first["run_id"] != second["run_id"]
    assert (second["symbol"], second["day"]) == (BTC, f"{day(1)} .. {day(3)}")
    assert second["command"] == f"heatmap run {BTC} --start {day(1)} --end {day(3)} --archive {archive} --home {home}"
    with light_runs():
        done(*second["command"].split()[1:])
    assert len(hook.bodies) == 3
    assert not list((home / "dagster").glob("*command-*"))


def test_of_two_commands_that_were_killed_beside_each_other_both_are_told(
    hook: Webhook, archive: Path, tmp_path: Path
) -> None:
    settings = real(tmp_path / "home", archive, BTC, ETH)
    folder = prepare_home(settings)
    for symbol in (BTC, ETH):
        note = {"command": f"heatmap refresh {symbol}", "symbols": [symbol]}
        (folder / f"command-{symbol}.json").write_text(json.dumps(note))
    with open_history(folder) as instance:
        stored_run(instance, settings, began=True, **LAUNCHED_HERE, **{SYMBOLS_TAG: BTC})
    close_killed_runs(settings)
    in_a_run, before = hook.bodies
    assert (in_a_run["symbol"], before["symbol"]) == (BTC, ETH)
    assert before["command"] == f"heatmap refresh {ETH}"
    assert notes_left(settings) == []


@pytest.mark.parametrize("content", [b"", b"[]", b'{"command": "heatmap refresh"}', b'{"symbols": 7, "command": 7}'])
def test_a_note_that_was_hardly_begun_is_removed_without_a_word(
    hook: Webhook, archive: Path, tmp_path: Path, content: bytes
) -> None:
    settings = real(tmp_path / "home", archive)
    folder = prepare_home(settings)
    (folder / "command-x.json").write_bytes(content)
    tell_of_killed_commands(settings, notes_left(settings), ())
    assert hook.asked == 0
    assert notes_left(settings) == []


def test_a_command_that_ends_by_itself_leaves_no_note_whatever_it_comes_to(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = real(tmp_path / "home", archive)
    folder = prepare_home(settings)

    def stopped() -> None:
        with noted(settings, "heatmap refresh"):
            (note,) = notes_left(settings)
            assert json.loads(note.read_bytes()) == {"command": "heatmap refresh", "symbols": [BTC]}
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert notes_left(settings) == []
    shutil.rmtree(folder)
    with noted(settings, "heatmap refresh"):  # a disk that takes nothing is said by the run
        pass
    monkeypatch.setenv("HEATMAP_WEBHOOK", "")
    (prepare_home(settings) / "command-x.json").write_text("{}")
    look_back(settings, notes_left(settings), daily=False)
    assert notes_left(settings) == [], "nobody is to be told, now or later"


def test_a_command_with_nothing_to_do_closes_the_run_of_one_that_was_killed(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its last day was published already; in the list it counts against the runs that Dagster allows at a time."""
    monkeypatch.delenv("HEATMAP_WEBHOOK", raising=False)
    settings = real(tmp_path / "home", archive)
    folder = prepare_home(settings)
    with open_history(folder) as instance:
        left = stored_run(instance, settings, began=True, **LAUNCHED_HERE, **{SYMBOLS_TAG: BTC})
    look_back(settings, notes_left(settings), daily=True)
    with open_history(folder) as instance:
        assert instance.get_runs()[0].status == dg.DagsterRunStatus.STARTED, "no note, no killed command"
    (folder / "command-x.json").write_text(json.dumps({"command": f"heatmap refresh {BTC}", "symbols": [BTC]}))
    look_back(settings, notes_left(settings), daily=True)
    with open_history(folder) as instance:
        (closed,) = instance.get_runs()
    assert (closed.run_id, closed.status) == (left.run_id, dg.DagsterRunStatus.FAILURE)
    assert notes_left(settings) == []


def stored_run(instance: dg.DagsterInstance, settings: Settings, *, began: bool, **tags: str) -> dg.DagsterRun:
    """Put a run that nobody works on into the history, as a killed process leaves it."""
    job = build_defs(settings, start=day(1)).resolve_job_def("heatmap_daily")
    status = dg.DagsterRunStatus.NOT_STARTED if began else dg.DagsterRunStatus.STARTING
    made = instance.create_run_for_job(job, status=status, tags={**range_tags(day(1), day(2)), **tags})
    if began:
        event = dg.DagsterEvent(event_type_value="PIPELINE_START", job_name=job.name)
        instance.report_dagster_event(event, made.run_id)
    found = instance.get_run_by_id(made.run_id)
    assert found is not None
    return found


def tell_failed(settings: Settings, instance: dg.DagsterInstance, run: dg.DagsterRun, event: dg.DagsterEvent) -> None:
    """Have the sensor of failures look at a run that failed."""
    sensor = build_defs(settings, start=day(1)).resolve_sensor_def(FAILURES)
    context = dg.build_run_status_sensor_context(FAILURES, event, instance, run)
    sensor(context.for_run_failure())


@pytest.mark.parametrize("began", [True, False])
def test_a_run_whose_command_could_not_write_the_history_is_not_told_again(
    hook: Webhook, archive: Path, tmp_path: Path, began: bool
) -> None:
    """The disk was full: the command said so, and its run looks as if it had been killed or had not begun."""
    settings = real(tmp_path / "home", archive)
    with open_history(prepare_home(settings)) as instance:
        left = stored_run(instance, settings, began=began, **LAUNCHED_HERE)
    notices.announce(settings, notices.Notice("failed", left.run_id, [notices.Failure(BTC, "full")], "heatmap refresh"))
    close_killed_runs(settings)
    assert hook.kinds() == ["failed"]
    with open_history(settings.home / "dagster") as instance:
        closed = instance.get_run_by_id(left.run_id)
    assert closed is not None
    assert closed.status == dg.DagsterRunStatus.FAILURE


@pytest.mark.parametrize("began", [True, False])
def test_a_run_of_the_ui_that_was_killed_or_did_not_start_is_told_once(
    hook: Webhook, archive: Path, tmp_path: Path, began: bool
) -> None:
    settings = real(tmp_path / "home", archive)
    with open_history(prepare_home(settings)) as instance:
        tag = {".dagster/grpc_info": json.dumps({"socket": str(tmp_path / "gone")})}
        left = stored_run(instance, settings, began=began, **tag)
    close_killed_runs_of_the_ui(settings, lambda _: False)
    with open_history(settings.home / "dagster") as instance:
        failed = instance.get_run_by_id(left.run_id)
        assert failed is not None
        assert failed.status == dg.DagsterRunStatus.FAILURE
        tell_failed(settings, instance, failed, dg.DagsterEvent("PIPELINE_FAILURE", failed.job_name))
    (body,) = hook.bodies
    assert (body["kind"], body["run_id"]) == ("killed" if began else "not_started", left.run_id)
    assert body["day"] == f"{day(1)} .. {day(2)}"
    assert body["command"].startswith(f"heatmap run {BTC} --start {day(1)} --end {day(2)}")


def run_of_the_ui(**more: Any) -> dg.DagsterRun:
    return dg.DagsterRun(job_name="heatmap_daily", tags=range_tags(day(1), day(2)), **more)


def test_a_run_of_the_ui_is_told_with_its_own_symbols(archive: Path, tmp_path: Path) -> None:
    settings = real(tmp_path / "home", archive).model_copy(update={"symbols": (BTC, ETH, "SOLUSDT")})
    selected = frozenset({dg.AssetKey([ETH, "raw_candles"]), dg.AssetKey(["u5E01USDT", "raw_candles"])})
    with dg.DagsterInstance.ephemeral() as instance:
        for run, symbols in (
            (run_of_the_ui(), "BTCUSDT, ETHUSDT and SOLUSDT"),
            (run_of_the_ui(asset_selection=selected), ETH),
            (run_of_the_ui(step_keys_to_execute=[f"{BTC}__raw_candles", f"{BTC}__position_events"]), BTC),
        ):
            notice = notice_of_run(settings, instance, run)
            assert [failure.symbol for failure in notice.failures] == [symbols]
            named = symbols.replace(",", "").replace(" and", "")
            assert notice.command.startswith(f"heatmap run {named} --start {day(1)} --end {day(2)}")


# -- what must not go on beside a run of the UI


def test_a_run_of_the_ui_that_works_on_a_symbol_is_waited_for(archive: Path, tmp_path: Path) -> None:
    settings = real(tmp_path / "home", archive).model_copy(update={"symbols": (BTC, ETH), "lock_timeout": 0.1})
    door = tmp_path / "door"
    tags = {".dagster/grpc_info": json.dumps({"socket": str(door)})}
    with dg.DagsterInstance.ephemeral() as instance:
        run = run_of_the_ui(asset_selection=frozenset({dg.AssetKey([ETH, "raw_candles"])}))
        instance.add_run(run.with_tags({**run.tags, **tags}).with_status(dg.DagsterRunStatus.STARTED))
        told: list[str] = []
        with pytest.raises(
            RunError, match=rf"run {run.run_id} of the UI still works on {ETH} after 0\.1 s; nothing was"
        ):
            wait_for_runs_of_the_ui(settings, instance, ETH, told.append, lambda path: path == door)
        assert told == [f"waiting for run {run.run_id} of the UI, which works on {ETH}"]
        wait_for_runs_of_the_ui(settings, instance, BTC, pytest.fail, lambda _: True)
        wait_for_runs_of_the_ui(settings, instance, ETH, pytest.fail, lambda _: False)  # its processes are gone
        answers = iter([True, True, False])
        patient = settings.model_copy(update={"lock_timeout": 1.0})
        wait_for_runs_of_the_ui(patient, instance, ETH, told.append, lambda _: next(answers))
        assert len(told) == 2


# -- the sensors


def test_the_sensor_tells_of_a_failed_step_and_of_a_run_without_any(
    hook: Webhook, broken: Path, tmp_path: Path
) -> None:
    settings = real(tmp_path / "home", broken)
    job = build_defs(settings, start=day(1)).resolve_job_def("heatmap_daily")
    with dg.DagsterInstance.ephemeral() as instance:
        result = job.execute_in_process(instance=instance, partition_key=str(day(2)), raise_on_error=False)
        (ended,) = [event for event in result.all_events if event.event_type_value == "PIPELINE_FAILURE"]
        for _ in range(2):
            tell_failed(settings, instance, result.dagster_run, ended)
        never = stored_run(instance, settings, began=False)
        instance.report_run_failed(never)
        tell_failed(settings, instance, never, dg.DagsterEvent("PIPELINE_FAILURE", never.job_name))
    failed, not_started = hook.bodies
    assert (failed["kind"], failed["symbol"], failed["stage"], failed["day"]) == (
        "failed",
        BTC,
        "raw_candles",
        str(day(2)),
    )
    assert candles_file(broken, 2).name in failed["text"]
    assert (not_started["kind"], not_started["run_id"]) == ("not_started", never.run_id)


# -- a day without any run


def tick(settings: Settings, last: date | None = None, *, times: int = 1) -> str | None:
    """Have the sensor of idle days look so often, each in a history without runs; return what it says last."""
    defs = build_defs(settings, start=day(1), there=None if last is None else (day(1), last))
    said = None
    for _ in range(times):
        with dg.DagsterInstance.ephemeral() as instance:
            context = dg.build_sensor_context(instance=instance, sensor_name=IDLE_DAYS)
            said = defs.resolve_sensor_def(IDLE_DAYS).evaluate_tick(context).skip_message
    return said


def test_a_day_without_any_run_is_told_once_a_day(
    hook: Webhook, home: Path, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = real(home, archive)
    for number in (5, 6):  # the last day stored is yesterday, or the day before: then today's run may be yet to come
        with monkeypatch.context() as patch:
            as_if_yesterday_were(patch, day(number))
            assert tick(settings) == "something ran, or nothing was due"
    assert hook.asked == 0
    for number in (7, 8):
        with monkeypatch.context() as patch:
            as_if_yesterday_were(patch, day(number))
            tick(settings, times=3)
            assert tick(settings, last=day(5)) == "something ran, or nothing was due", "these files end there"
    assert hook.kinds() == ["nothing_ran", "nothing_ran"]
    assert [body["day"] for body in hook.bodies] == [str(day(7)), f"{day(7)} .. {day(8)}"]
    assert f"the newest complete day stored is {day(5)}, and {day(6)} was due" in hook.bodies[0]["text"]
    assert hook.bodies[0]["command"] == f"heatmap refresh --archive {archive} --home {home}"


def test_refresh_tells_of_the_days_before_it_on_which_nothing_ran(
    hook: Webhook, home: Path, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_if_yesterday_were(monkeypatch, day(8))
    shutil.rmtree(home / "dagster", ignore_errors=True)
    assert heatmap("refresh", BTC, "--archive", archive, "--home", home).exit_code == 1
    assert hook.kinds() == ["nothing_ran", "failed"], "and the files of the days that are due are not there"


def test_a_day_on_which_something_ran_is_not_idle_though_it_failed(
    hook: Webhook, home: Path, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = real(home, archive)
    with dg.DagsterInstance.ephemeral() as instance:
        instance.report_run_failed(stored_run(instance, settings, began=True))
        now = datetime.now(UTC).date()
        for days, idle in ((0, False), (1, False), (2, True)):
            with monkeypatch.context() as patch:
                as_if_yesterday_were(patch, now + timedelta(days=days - 1))
                assert (tell_of_idle_days(settings, instance) is not None) == idle, days
    assert hook.kinds() == ["nothing_ran"]


def test_a_day_on_which_nothing_runs_because_the_clock_is_behind_is_told(
    hook: Webhook, home: Path, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = real(home, archive)
    with dg.DagsterInstance.ephemeral() as instance:
        instance.report_run_failed(stored_run(instance, settings, began=True))  # at a later time than the clock's
        as_if_yesterday_were(monkeypatch, day(2))
        for _ in range(2):
            tell_of_idle_days(settings, instance)
    (body,) = hook.bodies
    assert body["kind"] == "nothing_ran"
    assert "set the clock right" in body["text"]


def test_of_an_empty_home_nothing_is_told(hook: Webhook, tmp_path: Path) -> None:
    assert tick(load_settings(home=tmp_path / "home", source="demo")) == "something ran, or nothing was due"
    assert hook.asked == 0


def test_a_warehouse_that_cannot_be_read_is_told_once_a_day(hook: Webhook, home: Path, archive: Path) -> None:
    settings = real(home, archive)
    defs = build_defs(settings, start=day(1))
    (home / "warehouse" / "BTCUSDT.duckdb").write_bytes(b"not a database")
    for _ in range(2):
        with dg.DagsterInstance.ephemeral() as instance:
            context = dg.build_sensor_context(instance=instance, sensor_name=IDLE_DAYS)
            defs.resolve_sensor_def(IDLE_DAYS).evaluate_tick(context)
    (body,) = hook.bodies
    assert body["kind"] == "not_started"
    assert "BTCUSDT.duckdb" in body["text"]
    assert "heatmap run" in body["command"]


def test_a_damaged_file_of_one_symbol_does_not_stop_the_checks_of_another(
    hook: Webhook, home: Path, archive: Path
) -> None:
    settings = real(home, archive, BTC, ETH)
    warehouse = Warehouse(home)
    shutil.copyfile(warehouse.path(BTC), warehouse.path(ETH))
    with warehouse.connect(ETH) as con:
        con.execute("UPDATE raw_candles SET symbol = ?", [ETH])
    warehouse.path(BTC).write_bytes(b"not a database" * 1000)
    with dg.DagsterInstance.ephemeral() as instance:
        context = dg.build_sensor_context(instance=instance, sensor_name=IDLE_DAYS)
        ticked = build_defs(settings, start=day(1)).resolve_sensor_def(IDLE_DAYS).evaluate_tick(context)
    assert ticked.cursor is not None
    assert list(json.loads(ticked.cursor)) == [ETH]
    assert hook.kinds() == ["not_started"]
