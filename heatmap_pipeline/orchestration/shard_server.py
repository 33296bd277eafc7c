"""The code server of a shard where its runs are processes of it (deploy/compose.yaml), as one that was killed left it.

It is the program `dagster api grpc` as it is, after the runs of this shard that seem to go on are marked as failed. On
Kubernetes it is not needed: there a run is a pod, and Dagster's monitoring sees whether it lives.

    python -m heatmap_pipeline.orchestration.shard_server --host 0.0.0.0 --port 4000
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.metadata import entry_points

from heatmap_pipeline.chain.settings import load_checked_settings
from heatmap_pipeline.orchestration.runs import close_killed_runs_of_a_shard
from heatmap_pipeline.orchestration.shards import tags_of


def main(arguments: Sequence[str]) -> None:
    """Serve until stopped; the arguments are the program's own, but for the module."""
    settings = load_checked_settings()
    close_killed_runs_of_a_shard(settings, tags_of(settings))
    (script,) = entry_points(group="console_scripts", name="dagster")
    sys.argv = [script.name, "api", "grpc", "--module-name", "heatmap_pipeline.definitions", *arguments]
    script.load()()


if __name__ == "__main__":
    main(sys.argv[1:])
