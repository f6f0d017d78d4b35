"""What a request may take of a server: bytes, time, and a place among those that wait."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from starlette.requests import ClientDisconnect, Request

_SLOWEST = 20_000  # bytes a second, below which an upload is not waited for
_WHOLE = 200_000  # bytes a second of the largest upload there may be, which bounds all of them
_LONGEST = 240.0  # seconds beyond `upload_seconds`, however many bytes are allowed


class Problem(Exception):
    """Why a request is not answered: an HTTP status, a reason for a person, headers."""

    def __init__(self, status: int, reason: str, **headers: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


@dataclass(frozen=True)
class Limits:
    """Of one request, but for `waiting` and `uploads`, which are of all together."""

    megabytes: float = 50
    megapixels: float = 100
    waiting: int = 32
    seconds: float = 120  # of coloring, the wait for it included
    upload_seconds: float = 30  # before a slow upload ends; a steady one has longer

    @property
    def uploads(self) -> int:
        """Return how many may be sent at once: their senders set the pace, so more than wait."""
        return 4 * self.waiting

    @property
    def held_megabytes(self) -> float:
        """Return how much all requests may hold together, as if those that wait were the largest.

        Many more may be sent at once, of which most are smaller.
        """
        return self.waiting * self.megabytes

    @property
    def longest_upload(self) -> float:
        """Return the seconds after which an upload ends, however steady it is."""
        return self.upload_seconds + min(self.megabytes * 1e6 / _WHOLE, _LONGEST)


async def read_body(request: Request, limits: Limits, hold: "Hold") -> bytes:
    """Read a request's body, and no more of it than is allowed.

    `hold` is told of its bytes as they come. Raises Problem: 413 for too many bytes, before they
    are read where their number is announced; 408 for an upload that is slow or stops, 400 for one
    that ends early.
    """
    most = limits.megabytes * 1e6
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > most:
        raise _too_large(f"{int(announced) / 1e6:.1f}", limits)
    clock = asyncio.get_running_loop().time
    start, parts, size = clock(), [], 0
    try:
        async with asyncio.timeout(limits.upload_seconds) as deadline:
            async for part in request.stream():
                size += len(part)
                if size > most:
                    raise _too_large(f"more than {limits.megabytes:g}", limits)
                hold(len(part))
                parts.append(part)
                allowed = limits.upload_seconds + size / _SLOWEST
                deadline.reschedule(start + min(allowed, limits.longest_upload))
    except TimeoutError as error:
        raise Problem(
            408,
            f"the upload is too slow: {size / 1e6:.1f} MB came in {clock() - start:.0f} s; "
            "try again on a faster line, or with a smaller picture",
            Connection="close",
        ) from error
    except ClientDisconnect as error:
        raise Problem(400, "the connection ended before the picture was there") from error
    return b"".join(parts)


def _too_large(found: str, limits: Limits) -> Problem:
    return Problem(
        413,
        f"found {found} MB; this server takes at most {limits.megabytes:g} MB a request: "
        "make the picture smaller, or colorize it on the command line",
        Connection="close",
    )


Hold = Callable[[int], None]


class Held:
    """Counts the bytes that requests hold together."""

    def __init__(self, megabytes: float) -> None:
        self._left = megabytes * 1e6

    @contextmanager
    def enter(self) -> Iterator[Hold]:
        """Count for a request, until it ends, what it says that it holds.

        What it is told by raises Problem 503 where there is no room.
        """
        own = 0

        def hold(size: int) -> None:
            nonlocal own
            if size > self._left:
                raise Problem(
                    503,
                    "other pictures fill the memory that there is for them: try again soon",
                    Retry_After="5",
                    Connection="close",
                )
            self._left -= size
            own += size

        try:
            yield hold
        finally:
            self._left += own


class Gate:
    """Lets so many requests in at once; the others are told to come again."""

    def __init__(self, most: int, doing: str) -> None:
        """`doing` is what errors say that those inside are."""
        self._most, self._doing, self.inside = most, doing, 0

    @contextmanager
    def enter(self) -> Iterator[None]:
        """Take a place while a request is served; raises Problem 503 where there is none."""
        if self.inside >= self._most:
            raise Problem(
                503,
                f"{self.inside} pictures are {self._doing} already, no more are taken: "
                "try again soon",
                Retry_After="5",
            )
        self.inside += 1
        try:
            yield
        finally:
            self.inside -= 1
