"""The homes of the client's tests."""

from heatmap_pipeline_tests.client.conftest import address, file, published

__all__ = ["address", "file", "published"]
