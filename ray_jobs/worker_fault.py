"""What an actor of Ray Data failed of, without what Ray puts around it."""

import re

_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_WRAPPED = "\n\nThe above exception was the direct cause"
_FRAME = re.compile(r"^  File .*\n(?:    .*\n)*", re.MULTILINE)


def worker_fault(error: BaseException) -> str:
    """Return kind and message of the first error in a remote traceback, on one line.

    Ray's errors hold it as text alone, and end with advice on its own settings.
    """
    first = _ANSI.sub("", str(error)).strip().partition(_WRAPPED)[0]
    said = _FRAME.split(f"{first}\n")[-1]
    return " ".join(said.split()) or type(error).__name__
