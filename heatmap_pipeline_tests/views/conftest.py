"""The little home of the store's tests, for views too."""

from heatmap_pipeline_tests.store.conftest import built, con, warehouse

__all__ = ["built", "con", "warehouse"]
