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
        McpError: if the SDK is not installed, or is one of another version.
        ClientError: for an address that is none.
    """
    try:
        from heatmap_pipeline.mcp_server.server import run  # noqa: PLC0415
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in {"mcp", "mcp_types"}:
            raise
        missing = isinstance(error, ModuleNotFoundError)
        what = "not installed, which this server needs" if missing else "another version than this server needs"
        raise McpError(f"the package mcp is {what}; install it with `pip install '{NEEDS}'`") from None
    run(source, token)
