"""The `heatmap` command: thin, every verb one call into the package; whatever is heavy is imported when a verb runs."""

from heatmap_pipeline.cli.fleet import fleet
from heatmap_pipeline.cli.verbs import main

main.add_command(fleet)

__all__ = ["main"]
