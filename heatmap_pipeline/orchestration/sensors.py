"""What happens when a run fails: symbol, day and cause are told, and the days before the failed one are still run."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import dagster as dg

from heatmap_pipeline.orchestration.assets.common import had_until
from heatmap_pipeline.orchestration.partitions import LAUNCHED_HERE, days_of_run, range_tags
from heatmap_pipeline.settings import Settings

NAME = "heatmap_failure_sensor"
BEFORE = "heatmap_days_before_sensor"
_SECONDS = 10
"""Longest wait for the webhook's answer."""


@dataclass(frozen=True)
class FailureNotice:
    """One failed symbol of a run: what people and webhooks are told. `text` is the whole of it in one line."""

    run_id: str
    symbol: str
    day: str
    stage: str
    cause: str

    @property
    def text(self) -> str:
        """The notice in one line."""
        return f"heatmap: {self.symbol} failed at {self.stage}, day {self.day}: {self.cause}"


def notices(run: dg.DagsterRun, events: list[dg.DagsterEvent]) -> Iterator[FailureNotice]:
    """Yield a notice per failed step of a run."""
    for event in events:
        symbol, _, stage = (event.step_key or "").partition("__")
        data = event.step_failure_data
        told = data.user_failure_data
        cause = told.description if told is not None and told.description else data.error_display_string
        day = told.metadata["day"].value if told is not None and "day" in told.metadata else _days(run)
        yield FailureNotice(run.run_id, symbol, str(day), stage, " ".join((cause or "unknown cause").split())[:2000])


def _days(run: dg.DagsterRun) -> str:
    days = days_of_run(run.tags)
    return "unknown" if days is None else f"{days[0]} .. {days[1]}"


def build_failure_sensor(settings: Settings) -> dg.SensorDefinition:
    """Return the sensor; it runs by default and watches the runs of this code location."""

    @dg.run_failure_sensor(
        name=NAME,
        description="Logs symbol, day and cause of every failed run, and calls HEATMAP_WEBHOOK if it is set.",
        default_status=dg.DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=30,
    )
    def heatmap_failure_sensor(context: dg.RunFailureSensorContext) -> None:
        for notice in notices(context.dagster_run, list(context.get_step_failure_events())):
            context.log.error(notice.text)
            if settings.webhook:
                try:
                    post(settings.webhook, notice)
                except OSError as error:
                    context.log.warning(f"HEATMAP_WEBHOOK did not take the notice: {type(error).__name__}")

    return heatmap_failure_sensor


def days_before(
    run: dg.DagsterRun, events: list[dg.DagsterEvent], assets: Iterable[dg.AssetKey]
) -> Iterator[dg.RunRequest]:
    """Yield a request per symbol whose run stopped at a day that cannot be had: for the days before that one.

    Nothing for runs of the command line, which do so themselves (`runs.run_days`).

    Args:
        run: that failed.
        events: the failures of its steps.
        assets: of the pipeline; only those that the run was about are run again.
    """
    days = days_of_run(run.tags)
    if days is None or LAUNCHED_HERE.items() <= run.tags.items():
        return
    until = {(event.step_key or "").partition("__")[0]: day for event in events if (day := had_until(event))}
    for symbol, last in until.items():
        chosen = [
            key for key in assets if key.path[0] == symbol and (not run.asset_selection or key in run.asset_selection)
        ]
        yield dg.RunRequest(
            run_key=f"{run.run_id} {symbol} {days[0]} .. {last}", asset_selection=chosen, tags=range_tags(days[0], last)
        )


def build_days_before_sensor(job: Any, assets: Sequence[dg.AssetsDefinition]) -> dg.SensorDefinition:
    """Return the sensor; it runs by default and watches the runs of this code location."""
    keys = [key for asset in assets for key in asset.keys]

    @dg.run_failure_sensor(
        name=BEFORE,
        description="Runs the days before one that cannot be had, so that it stops only itself and what follows.",
        default_status=dg.DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=30,
        request_job=job,
    )
    def heatmap_days_before_sensor(context: dg.RunFailureSensorContext) -> Iterator[dg.RunRequest]:
        yield from days_before(context.dagster_run, list(context.get_step_failure_events()), keys)

    return heatmap_days_before_sensor


def post(url: str, notice: FailureNotice) -> None:
    """Send a notice as JSON, with the one-line `text` that chat webhooks show.

    Raises:
        OSError: if the webhook cannot be reached or refuses (`requests` raises nothing else).
    """
    import requests  # noqa: PLC0415  # only a failure pays for it

    requests.post(url, json={"text": notice.text, **asdict(notice)}, timeout=_SECONDS).raise_for_status()
