"""The UI in Chromium: a page of another site can change nothing in it, and its own page can do everything."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from heatmap_pipeline_tests.orchestration.homes import day
from heatmap_pipeline_tests.orchestration.ui.running import (
    REPOSITORY,
    RUN,
    Ui,
    asset_keys,
    loaded,
    succeeded,
    ui,
    wait_for,
)
from heatmap_pipeline_tests.render.browser import CHROMIUM, FLAGS

pytestmark = pytest.mark.slow

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


def schedule(running: Ui) -> dict[str, str]:
    (only,) = running.ask(STATE, of=REPOSITORY)["schedulesOrError"]["results"]
    return dict(only["scheduleState"])


def test_only_its_own_page_changes_anything(tmp_path: Path, browser: Any, other_site: int) -> None:
    with ui(tmp_path / "home", tmp_path / "log") as running:
        wait_for("starting the UI", 90, lambda: loaded(running))
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
        page.goto(f"http://127.0.0.1:{running.port}/")
        page.get_by_text("Catalog").or_(page.get_by_text("Assets")).first.wait_for(timeout=30_000)
        assert page.evaluate(SOCKET, f"ws://{there}") == "connection_ack"
        job = {**REPOSITORY, "jobName": "heatmap_daily", "assetSelection": asset_keys("raw_candles")}
        tags = [{"key": "dagster/partition", "value": str(day(1))}]
        params = {"selector": job, "runConfigData": {}, "executionMetadata": {"tags": tags}}
        launched = page.evaluate(ASK, {"query": RUN, "variables": {"params": params}})["launchRun"]
        assert launched["__typename"] == "LaunchRunSuccess", launched
        wait_for("the run", 90, lambda: succeeded(running, 1))
        # The very mutation that changed nothing from elsewhere stops the schedule from here.
        stopped = page.evaluate(ASK, {"query": query})
        assert stopped["stopRunningSchedule"]["__typename"] == "ScheduleStateResult"
        assert schedule(running)["status"] == "STOPPED"
        page.close()
