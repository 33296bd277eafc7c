"""The export of HEATMAP_EXPORT, after each publication; where it fails, what is published stands."""

import dagster as dg

from heatmap_pipeline.chain.exporting import export_command, export_published
from heatmap_pipeline.errors import HeatmapError
from heatmap_pipeline.orchestration.assets import published_database
from heatmap_pipeline.orchestration.assets.common import asset_key, symbol_asset
from heatmap_pipeline.settings import Settings

NAME = "parquet_export"


def build(settings: Settings, symbol: str, _days: dg.DailyPartitionsDefinition) -> dg.AssetsDefinition:
    """Return the asset of one symbol: its publication changed, so it is exported; files of others are left alone."""

    @symbol_asset(
        symbol,
        NAME,
        ["parquet"],
        deps=[asset_key(symbol, published_database.NAME)],
        description=f"What is published, as Parquet files in {settings.export}.",
    )
    def parquet_export() -> dg.MaterializeResult:  # type: ignore[type-arg]
        folder = settings.export
        assert folder is not None  # noqa: S101 - else this asset is not built
        try:
            report = export_published(settings, folder)
        # The rows are stored and published, so it is no failed day: `heatmap status` looks at the folder itself.
        except HeatmapError as error:
            words = (
                f"{symbol} is published, but not exported: {error}; export it then with `{export_command(settings)}`"
            )
            raise dg.Failure(description=words, allow_retries=False) from None
        return dg.MaterializeResult(
            metadata={
                "folder": dg.MetadataValue.path(str(report.folder)),
                "files": report.files,
                "megabytes": report.size / 1e6,
                "written": report.written,
                "removed": report.removed,
            }
        )

    return parquet_export
