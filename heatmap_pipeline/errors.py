"""The one base class of errors that are meant to be read by people.

Its message says which file or argument, what is wrong, and what to do; the command line prints it as the last line and
shows no traceback. Anything else that is raised is a defect of ours.
"""


class HeatmapError(Exception):
    """A wrong input or a state that the user can repair; the message says how.

    Attributes:
        temporary: whether the same thing may succeed later without anybody's doing, as a server that did not answer.
    """

    temporary = False
