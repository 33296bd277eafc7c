"""The base class of errors meant to be read by people, and how names and the words of strangers are put into them.

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


def printable(text: str, limit: int = 200) -> str:
    """Return text of a stranger as one line fit for a terminal, at most `limit` letters of it.

    Example:
        >>> printable("two" + chr(10) + "lines")
        'two?lines'
    """
    return "".join(letter if letter.isprintable() else "?" for letter in text[:limit])


def listed(names: Iterable[str], conjunction: str = "and") -> str:
    """Return names as a sentence lists them.

    Example:
        >>> listed(["a", "b", "c"]), listed(["a", "b"], "or"), listed(["a"])
        ('a, b and c', 'a or b', 'a')
    """
    *others, last = names
    return f"{', '.join(others)} {conjunction} {last}" if others else last


def counted(number: int, name: str) -> str:
    """Return how many of something there are.

    Example:
        >>> counted(1, "part"), counted(2, "older backup")
        ('1 part', '2 older backups')
    """
    return f"{number} {name}{'' if number == 1 else 's'}"


def reason(error: Exception) -> str:
    """Return what an error says, on one line; of one of the system without its number.

    Example:
        >>> reason(PermissionError(13, "Permission denied", "/srv/heatmap"))
        'Permission denied: /srv/heatmap'
        >>> reason(OSError(28, "No space left on device", "a.duckdb", None, "b.duckdb"))
        'No space left on device: a.duckdb -> b.duckdb'
    """
    if isinstance(error, OSError) and error.strerror:
        files = " -> ".join(str(name) for name in (error.filename, error.filename2) if name)
        return f"{error.strerror}: {files}" if files else error.strerror
    return " ".join(str(error).split())
