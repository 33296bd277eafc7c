"""The heatmap for assistants: a read-only server of the Model Context Protocol over standard input and output."""

from __future__ import annotations

from pathlib import Path

from heatmap_pipeline.errors import HeatmapError

NEEDS = "mcp>=2.3,<3"
"""What pyproject.toml has as the extra `mcp`."""


class McpError(HeatmapError):
    """A server that cannot be run; says what to do."""


def serve(source: str | Path, token: str | None = None) -> None:
    """Answer an assistant until it closes standard input; standard output belongs to the protocol.

    Args:
        source: the path of a home or a published file, opened at the first question, so that a home may be empty until
            then; or the address of an endpoint.
        token: of the endpoint.

    Raises:
        McpError: if the SDK is not installed.
        ClientError: for an address that is none.
    """
    try:
        from heatmap_pipeline.mcp_server.server import run  # noqa: PLC0415
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "mcp":
            raise
        raise McpError(
            f"the package mcp is not installed, which this server needs; install it with `pip install '{NEEDS}'`"
        ) from None
    run(source, token)
