"""What a monitor asks for: GET /metrics, in the text format of Prometheus.

Requests are counted as they pass; everything else is read from where it is known when somebody asks.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector

from heatmap_pipeline import __version__
from heatmap_pipeline.api.traffic import Passed
from heatmap_pipeline.instants import DAY, day_start
from heatmap_pipeline.store.last_run import read_last_run

if TYPE_CHECKING:
    from heatmap_pipeline.api.connections import Crowd
    from heatmap_pipeline.api.service import Service

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4

_ELSEWHERE = "other"
"""Stands for every path that is none, so that strangers cannot make rows."""

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """The counts of one server; all methods belong to its event loop.

    Args:
        service: whose cache, queue and publication are told.
    """

    def __init__(self, service: Service) -> None:
        self.routes: Collection[str] = ()
        self._registry = CollectorRegistry()
        self._state = _State(service)
        self._registry.register(self._state)
        self._requests = Counter(
            "heatmap_http_requests", "Answers, by route and status.", ["route", "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "heatmap_http_request_seconds",
            "From the end of a request's head to the last byte handed to its connection.",
            ["route"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._bytes = Counter(
            "heatmap_http_response_bytes", "Bytes of bodies as sent.", ["route"], registry=self._registry
        )

    def count(self, passed: Passed) -> None:
        """Count a request."""
        route = passed.path if passed.path in self.routes else _ELSEWHERE
        self._requests.labels(route, str(passed.status)).inc()
        self._seconds.labels(route).observe(passed.seconds)
        self._bytes.labels(route).inc(passed.size)

    def text(self, crowd: Crowd | None, now: datetime | None = None) -> bytes:
        """Return the answer.

        Args:
            crowd: the connections of the server, where they are known.
            now: for tests.
        """
        self._state.crowd, self._state.now = crowd, now or datetime.now(UTC)
        return generate_latest(self._registry)


class _State(Collector):
    """Reads at the moment of the question what other parts of the server know."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self.crowd: Crowd | None = None
        self.now = datetime.now(UTC)

    def collect(self) -> Iterator[Metric]:
        """Yield every metric but those of requests."""
        yield _gauge("heatmap_info", "The version of the program.", {__version__: 1}, "version")
        yield GaugeMetricFamily("heatmap_process", "The number of the process that answers.", os.getpid())
        yield from self._cache()
        yield from self._load()
        yield from self._publication()
        yield from self._run()

    def _cache(self) -> Iterator[Metric]:
        cache, stats = self._service.cache, self._service.cache.stats
        results = {
            "hit": stats.hits,
            "miss": stats.misses,
            "coalesced": stats.coalesced,
            "not_modified": stats.not_modified,
            "rejected": stats.rejected,
        }
        family = CounterMetricFamily(
            "heatmap_cache_requests", "What the cache made of questions since the start.", labels=["result"]
        )
        for result, count in results.items():
            family.add_metric([result], count)
        yield family
        yield GaugeMetricFamily("heatmap_cache_bytes", "Bytes of finished answers that are kept.", cache.size)
        yield GaugeMetricFamily("heatmap_cache_entries", "Finished answers that are kept.", len(cache))

    def _load(self) -> Iterator[Metric]:
        working, waiting = self._service.queue
        questions = {"working": working, "waiting": waiting}
        yield _gauge("heatmap_questions", "Answers being made, and questions waiting for that.", questions, "state")
        yield GaugeMetricFamily(
            "heatmap_outgoing_bytes",
            "Bytes of bodies that connections have not taken yet.",
            self._service.outgoing.size,
        )
        if self.crowd is not None:
            yield GaugeMetricFamily("heatmap_connections", "Open connections.", len(self.crowd))
            yield CounterMetricFamily("heatmap_connections_refused", "One too many.", self.crowd.refused)
            yield CounterMetricFamily("heatmap_connections_cut", "Late, stalled or idle ones ended.", self.crowd.cut)

    def _publication(self) -> Iterator[Metric]:
        publications = self._service.publications
        version, made = publications.version, publications.made
        yield GaugeMetricFamily("heatmap_publication_open", "Whether one is served.", int(version is not None))
        yield GaugeMetricFamily(
            "heatmap_publication_unreadable",
            "Whether a newer file is there and cannot be read.",
            int(bool(publications.problem)),
        )
        yield CounterMetricFamily("heatmap_publication_loads", "Publications that were read.", publications.loads)
        if version is None or made is None:
            return
        yield GaugeMetricFamily(
            "heatmap_publication_age_seconds",
            "Since the file that is open was published.",
            max(self.now.timestamp() - made, 0.0),
        )
        behind, age, located = {}, {}, {}
        yesterday = day_start(self.now.date()) // DAY - 1
        for name, symbol in version.symbols.items():
            located[name] = next(iter(symbol.models.values())).located_share
            if symbol.ended is not None:  # its data grow older for ever, and nothing is wrong with that
                continue
            newest = [model.newest_complete for model in symbol.models.values()]
            days = [yesterday - day_start(day) // DAY for day in newest if day is not None]
            if len(days) == len(newest):
                behind[name] = max(*days, 0)
            age[name] = max(self.now.timestamp() - min(model.end for model in symbol.models.values()) / 1e6, 0.0)
        yield _gauge(
            "heatmap_days_behind",
            "From the newest complete day that is published to yesterday (UTC).",
            behind,
            "symbol",
        )
        yield _gauge("heatmap_data_age_seconds", "Since the end of the newest candle published.", age, "symbol")
        yield _gauge("heatmap_located_share", "Of the symbol's first model, 0 to 1, newest.", located, "symbol")

    def _run(self) -> Iterator[Metric]:
        run = read_last_run(self._service.settings.home)
        if run is None:
            return
        yield GaugeMetricFamily(
            "heatmap_run_end_timestamp_seconds", "When the newest run ended, 1970.", run.ended.timestamp()
        )
        yield GaugeMetricFamily(
            "heatmap_run_duration_seconds", "Of the newest run.", (run.ended - run.began).total_seconds()
        )
        yield GaugeMetricFamily("heatmap_run_failed", "Whether anything of the newest run failed.", int(run.failed))
        failures = {symbol: int(symbol in run.failures) for symbol in sorted({*run.symbols, *run.failures})}
        yield _gauge("heatmap_run_symbol_failed", "Whether it failed in the newest run.", failures, "symbol")
        yield _gauge("heatmap_run_repaired_rows", "Of the files that the newest run read anew.", run.repaired, "symbol")


def _gauge(name: str, text: str, values: Mapping[str, float], label: str) -> Metric:
    family = GaugeMetricFamily(name, text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family
