"""The one base class of errors that are meant to be read by people, and how their sentences list names.

Its message says which file or argument, what is wrong, and what to do; the command line prints it as the last line and
shows no traceback. Anything else that is raised is a defect of ours.
"""

from __future__ import annotations

from collections.abc import Iterable


class HeatmapError(Exception):
    """A wrong input or a state that the user can repair; the message says how.

    Attributes:
        temporary: whether the same thing may succeed later without anybody's doing, as a server that did not answer.
    """

    temporary = False


def listed(names: Iterable[str], conjunction: str = "and") -> str:
    """Return names as a sentence lists them.

    Example:
        >>> listed(["a", "b", "c"]), listed(["a", "b"], "or"), listed(["a"])
        ('a, b and c', 'a or b', 'a')
    """
    *others, last = names
    return f"{', '.join(others)} {conjunction} {last}" if others else last
