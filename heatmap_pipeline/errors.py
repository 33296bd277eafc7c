"""The one base class of errors that are meant to be read by people, and how a stranger's words are put into them.

Its message says which file or argument, what is wrong, and what to do; the command line prints it as the last line and
shows no traceback. Anything else that is raised is a defect of ours.
"""


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
