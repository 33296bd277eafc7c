"""`python -m heatmap_pipeline`, and the script `heatmap`: the command as a process of its own."""

import atexit
import os
import sys

_codes: list[int] = []
"""The code that the command ended with, once it has."""


def command() -> None:
    """Run the command that this process was started for, and leave at once when it is done.

    Python would take apart every module and object first, most of a second after a run; the system takes them all back
    by itself. What is registered to be done at the end is done before, and an error that nobody expected ends as ever.
    """
    atexit.register(_leave)  # before anything else is, so that it comes last
    from heatmap_pipeline.cli import main  # noqa: PLC0415

    try:
        main(prog_name="heatmap")
    except SystemExit as end:
        if isinstance(end.code, int):
            _codes.append(end.code)
        raise


def _leave() -> None:
    if not _codes:
        return
    try:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    except (OSError, ValueError, AttributeError):  # closed, or nobody reads it: Python has words and a code for that
        return
    os._exit(_codes[-1])


if __name__ == "__main__":
    command()
