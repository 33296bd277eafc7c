"""The published home of the endpoint's tests, and the two ways to ask for what is in it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from heatmap_pipeline.client import Heatmap
from heatmap_pipeline.settings import Settings
from heatmap_pipeline_tests.api._load import HOST
from heatmap_pipeline_tests.api._threaded import serving_here
from heatmap_pipeline_tests.api.conftest import published

__all__ = ["published"]


@pytest.fixture(scope="session")
def file(published: Settings) -> Iterator[Heatmap]:
    """The published file."""
    with Heatmap(published.home / "heatmap.duckdb") as heatmap:
        yield heatmap


@pytest.fixture(scope="session")
def address(published: Settings) -> Iterator[str]:
    """The address of a real server of it, in a thread."""
    with serving_here(published) as running:
        yield f"http://{HOST}:{running.port}"


@pytest.fixture(scope="session")
def url(address: str) -> Iterator[Heatmap]:
    """The same by its address."""
    with Heatmap(address) as heatmap:
        yield heatmap
