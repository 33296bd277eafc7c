"""`heatmap ui` with all of Dagster, in use: a backfill that is killed and goes on, pages of other sites, and its end.

One UI for all of it, as starting Dagster takes longer than what is done with it: each test goes on from the one before.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from heatmap_pipeline.settings import load_settings
from heatmap_pipeline.store.warehouse import Warehouse
from heatmap_pipeline_tests.orchestration.homes import ask, day, problems
from heatmap_pipeline_tests.orchestration.ui.running import (
    BACKFILL,
    DAILY,
    REPOSITORY,
    RUN,
    SCHEDULES,
    Ui,
    asset_keys,
    end,
    ended,
    gone,
    loaded,
    of_home,
    runs,
    start,
)
from heatmap_pipeline_tests.render.browser import CHROMIUM, FLAGS

pytestmark = pytest.mark.slow

DAYS = 3
RAW, COMPUTED = set(DAILY[:2]), set(DAILY[2:])
WHOLE = ("heatmap_render", "published_database")

STATE = """query($of: RepositorySelector!) { schedulesOrError(repositorySelector: $of) {
    ... on Schedules { results { scheduleState { id status } } } } }"""
STOP = 'mutation { stopRunningSchedule(id: "%s") { __typename } }'

ATTACKS = """async ({ url, socket, query }) => {
    const settled = [];
    const wait = make => new Promise(done => { make(done); setTimeout(done, 5000); });
    await wait(done => { const image = new Image(); image.onload = image.onerror = done; image.src = url; });
    await wait(done => { const script = document.createElement('script'); script.onload = script.onerror = done;
        script.src = url; document.head.append(script); });
    const json = JSON.stringify({ query });
    const tries = [
        { method: 'GET' },
        { method: 'POST', body: json },
        { method: 'POST', body: json, headers: { 'Content-Type': 'text/plain' } },
        { method: 'POST', body: new URLSearchParams({ query }) },
    ];
    for (const one of tries)
        await fetch(url, { mode: 'no-cors', credentials: 'include', ...one }).catch(() => null);
    for (const kind of ['application/json', 'application/graphql'])
        settled.push(await fetch(url, { method: 'POST', body: json, headers: { 'Content-Type': kind } })
            .then(() => 'answered', () => 'blocked'));
    for (const kind of ['text/plain', 'multipart/form-data', 'application/x-www-form-urlencoded']) {
        const frame = document.createElement('iframe');
        frame.name = kind;
        document.body.append(frame);
        const form = document.createElement('form');
        Object.assign(form, { method: 'POST', action: url, enctype: kind, target: kind });
        const field = document.createElement('input');
        Object.assign(field, { name: '{"query": ' + JSON.stringify(query) + ', "x": "', value: '"}' });
        form.append(field);
        document.body.append(form);
        await wait(done => { frame.onload = done; form.submit(); });
    }
    settled.push(await wait(done => {
        const open = new WebSocket(socket, 'graphql-ws');
        open.onopen = () => done('open');
        open.onclose = () => done('closed');
    }));
    return settled;
}"""
"""What a page can have a browser send elsewhere; returns what became of the tries of which it learns something."""

SOCKET = """address => new Promise((done, failed) => {
    const open = new WebSocket(address, 'graphql-ws');
    open.onopen = () => open.send(JSON.stringify({ type: 'connection_init', payload: {} }));
    open.onmessage = message => { open.close(); done(JSON.parse(message.data).type); };
    open.onerror = () => failed(new Error('refused'));
})"""

ASK = """async body => {
    const headers = { 'Content-Type': 'application/json' };
    const answer = await fetch('/graphql', { method: 'POST', headers, body: JSON.stringify(body) });
    return (await answer.json()).data;
}"""


class Used:
    """The home and the UI on it, which is started again where it was killed."""

    def __init__(self, folder: Path) -> None:
        self.home, self.log = folder / "home", folder / "log"
        self.ui = start(self.home, self.log)

    def begin_again(self) -> None:
        self.ui = start(self.home, self.log)


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Used]:
    used = Used(tmp_path_factory.mktemp("ui"))
    yield used
    end(used.ui, used.home)


@pytest.fixture
def other_site() -> Iterator[int]:
    """The port of a server with an empty page, of another site by name (localhost) or by port alone (127.0.0.1)."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<!doctype html><title>elsewhere</title><body>")

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


@pytest.fixture
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed; install extra 'test'")
    if not CHROMIUM.exists():
        pytest.skip(f"no browser at {CHROMIUM}; install Debian's package chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield browser
        browser.close()


def test_a_backfill_that_was_killed_goes_on(used: Used) -> None:
    """Two runs over the whole range, not one per day: the raw data, then what depends on the day before."""

    def computing() -> bool | None:
        return True if ("STARTED", COMPUTED) in runs(used.ui) else None

    used.ui.wait("starting the UI", 90, lambda: loaded(used.ui))
    schedules = {one["name"]: one for one in used.ui.ask(SCHEDULES, of=REPOSITORY)["schedulesOrError"]["results"]}
    assert schedules["heatmap_daily_schedule"]["scheduleState"]["status"] == "RUNNING"
    wanted = [str(day(number)) for number in range(1, DAYS + 1)]
    params = {"assetSelection": asset_keys(*DAILY), "partitionNames": wanted}
    backfill = used.ui.ask(BACKFILL, params=params)["launchPartitionBackfill"]
    assert backfill["__typename"] == "LaunchBackfillSuccess", backfill
    used.ui.wait("the raw data", 120, lambda: ("SUCCESS", RAW) in runs(used.ui) or None)
    with Warehouse(used.home).locked("BTCUSDT"):  # or a quick machine would have computed all of it before it is killed
        used.ui.wait("the run that follows the raw data", 60, computing)
        used.ui.process.kill()
        used.ui.wait("the end of everything", 40, lambda: gone(used.home))

    used.begin_again()
    used.ui.wait("starting the UI again", 90, lambda: loaded(used.ui))
    result = used.ui.wait("the rest of the backfill", 120, lambda: ended(used.ui, backfill["backfillId"]))
    assert result == {"status": "COMPLETED_SUCCESS", "error": None}
    assert runs(used.ui) == [("SUCCESS", COMPUTED), ("FAILURE", COMPUTED), ("SUCCESS", RAW)]


def test_what_was_computed_is_drawn_and_published(used: Used) -> None:
    job = {**REPOSITORY, "jobName": "heatmap_daily", "assetSelection": asset_keys(*WHOLE)}
    run = used.ui.ask(RUN, params={"selector": job, "runConfigData": {}})["launchRun"]
    assert run["__typename"] == "LaunchRunSuccess", run
    used.ui.wait("drawing and publishing", 60, lambda: runs(used.ui)[0][0] in ("SUCCESS", "FAILURE") or None)
    assert runs(used.ui)[0] == ("SUCCESS", set(WHOLE))
    settings = load_settings(home=used.home, models=("turnover",), snapshot_interval="4h")
    found = ask(settings, "SELECT DISTINCT day FROM heatmap_days ORDER BY 1", published=True)
    assert found == [(day(number),) for number in range(1, DAYS + 1)]
    assert (used.home / "renders" / "index.html").exists()
    assert not problems(settings)


def schedule(running: Ui) -> dict[str, str]:
    (only,) = running.ask(STATE, of=REPOSITORY)["schedulesOrError"]["results"]
    return dict(only["scheduleState"])


def test_only_its_own_page_changes_anything(used: Used, browser: Any, other_site: int) -> None:
    running = used.ui
    state = schedule(running)
    assert state["status"] == "RUNNING"
    query = STOP % state["id"]
    there = f"127.0.0.1:{running.port}/graphql"
    aim = {"url": f"http://{there}?query={quote(query)}", "socket": f"ws://{there}", "query": query}
    for name in ("localhost", "127.0.0.1"):
        page = browser.new_page()
        page.goto(f"http://{name}:{other_site}/")
        learned = page.evaluate(ATTACKS, aim)
        assert schedule(running)["status"] == "RUNNING"
        assert learned == ["blocked", "blocked", "closed"]
        page.goto(aim["url"])  # as a link: the form to write a query, which asks nothing by itself
        page.close()
        assert schedule(running)["status"] == "RUNNING"
    page = browser.new_page()
    page.goto(running.address)
    page.get_by_text("Catalog").or_(page.get_by_text("Assets")).first.wait_for(timeout=30_000)
    assert page.evaluate(SOCKET, f"ws://{there}") == "connection_ack"
    # The very mutation that changed nothing from elsewhere stops the schedule from here.
    stopped = page.evaluate(ASK, {"query": query})
    assert stopped["stopRunningSchedule"]["__typename"] == "ScheduleStateResult"
    assert schedule(running)["status"] == "STOPPED"
    page.close()


def test_it_ends_with_all_of_dagster(used: Used) -> None:
    assert len(of_home(used.home)) >= 5  # keeper, code server and what it starts, daemon, webserver
    said = used.log.read_text()
    assert said.count(f"Dagster UI on {used.ui.address.rstrip('/')} for {used.home}; stop it with Ctrl-C\n") == 1
    used.ui.process.send_signal(signal.SIGINT)  # ignored when it began, as in the background of a script
    assert used.ui.process.wait(timeout=40) == 0
    assert not of_home(used.home)
    assert not list(used.log.parent.glob("heatmap-ui-*")), "not even the folder of their sockets"
    assert used.log.read_text() == said
