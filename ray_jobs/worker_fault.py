"""What an actor of Ray Data failed of, without what Ray puts around it."""

import re

_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_WRAPPED = "\n\nThe above exception was the direct cause"
_RAYS = "ray.exceptions.UserCodeException"
_FRAME = re.compile(r"^  File .*\n(?:    .*\n)*", re.MULTILINE)


def worker_fault(error: BaseException) -> str:
    """Return kind and message of the error in a remote traceback that Ray's wrap, on one line.

    Ray's errors hold it as text alone, and end with advice on its own settings. Before it there may
    be what caused it.
    """
    raised = _ANSI.sub("", str(error)).strip().split(_WRAPPED)
    if len(raised) > 1 and _RAYS in raised[-1]:
        raised.pop()
    said = " ".join(_FRAME.split(f"{raised[-1]}\n")[-1].split())
    return said.removeprefix("colorization.config.ConfigError: ") or type(error).__name__
