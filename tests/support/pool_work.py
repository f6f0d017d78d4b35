"""Work for processes of a pool."""

import os
import signal
from collections.abc import Callable, Iterator


def squares(offset: int) -> Callable[[int], Iterator[int]]:
    """Begin to square numbers; some end the process or raise."""

    def work(number: int) -> Iterator[int]:
        if number == 13:
            os.kill(os.getpid(), signal.SIGKILL)
        if number == 14:
            raise ValueError("planted")
        yield number**2 + offset
        yield os.getpid()

    return work
