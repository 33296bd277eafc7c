"""What happens when a run fails: one log line with symbol, day and cause, and a call to a webhook if one is set."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass

import dagster as dg

from heatmap_pipeline.settings import Settings

NAME = "heatmap_failure_sensor"
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
    from heatmap_pipeline.orchestration.partitions import days_of_run  # noqa: PLC0415

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


def post(url: str, notice: FailureNotice) -> None:
    """Send a notice as JSON, with the one-line `text` that chat webhooks show.

    Raises:
        OSError: if the webhook cannot be reached or refuses (`requests` raises nothing else).
    """
    import requests  # noqa: PLC0415  # only a failure pays for it

    requests.post(url, json={"text": notice.text, **asdict(notice)}, timeout=_SECONDS).raise_for_status()
