"""Processes that work off tasks; one that dies costs the task that it had."""

import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from multiprocessing import connection, forkserver
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from typing import Any, Generic, NamedTuple, TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")
Work = Callable[[Task], Iterable[Result]]

_IDLE = None  # in place of a result: the task is done
_PATIENCE = 5.0  # seconds that a worker gets to write what it has begun


class Died(NamedTuple):
    """A worker's end: by a signal, or with an exit status."""

    exit_code: int

    def __str__(self) -> str:
        if self.exit_code < 0:
            return f"its process was ended by {signal.Signals(-self.exit_code).name}"
        return f"its process ended with status {self.exit_code}"


def start_early(modules: Sequence[str]) -> None:
    """Let a process import modules now, of which workers are forked later.

    To be called before this process imports them itself: both then do so at the same time.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(modules))
    forkserver.ensure_running()


class _Worker(Generic[Task]):
    def __init__(self, begin: Callable[..., Work[Any, Any]], arguments: Sequence[Any]) -> None:
        context = multiprocessing.get_context("forkserver")
        self.pipe, theirs = context.Pipe()
        self.process: ForkServerProcess = context.Process(
            target=_serve, args=(begin, arguments, theirs), daemon=True
        )
        self.process.start()
        theirs.close()
        self.task: Task | None = None

    def give(self, task: Task) -> None:
        self.task = task
        with suppress(BrokenPipeError):  # it has died, which its end says
            self.pipe.send(task)

    def end(self) -> None:
        """End at the latest when the task at hand is done, within a few seconds."""
        self.process.join(_PATIENCE)
        self.process.terminate()
        self.process.join()


def work_off(
    begin: Callable[..., Work[Task, Result]],
    arguments: Sequence[Any],
    tasks: Iterable[Task],
    workers: int,
) -> Iterator[tuple[Task, Result | Died]]:
    """Yield the results of tasks as they come.

    Each process calls `begin(*arguments)` once and what that returns with each task; it may give
    several results. Where a process dies, its task is answered by `Died` and another one started.
    What a worker raises is raised here, and ends all. Processes end with the iterator or with this
    process, whatever its end.
    """
    waiting = deque(tasks)
    running = [_Worker[Task](begin, arguments) for _ in range(min(workers, len(waiting)))]
    try:
        for worker in running:
            worker.give(waiting.popleft())
        while busy := [worker for worker in running if worker.task is not None]:
            by_pipe = {worker.pipe: worker for worker in busy}
            for pipe in connection.wait(list(by_pipe)):
                assert isinstance(pipe, Connection)
                worker = by_pipe[pipe]
                task = worker.task
                assert task is not None
                try:
                    answer = pipe.recv()
                except (EOFError, ConnectionResetError):
                    worker.process.join()
                    running.remove(worker)
                    pipe.close()
                    yield task, Died(worker.process.exitcode or 0)
                    if waiting:
                        running.append(_Worker[Task](begin, arguments))
                        running[-1].give(waiting.popleft())
                    continue
                if isinstance(answer, BaseException):
                    raise answer
                if answer is not _IDLE:
                    yield task, answer
                    continue
                worker.task = None
                if waiting:
                    worker.give(waiting.popleft())
    finally:
        for worker in running:
            worker.pipe.close()
        for worker in running:
            worker.end()


def _serve(
    begin: Callable[..., Work[Any, Any]], arguments: Sequence[Any], pipe: Connection
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the first process ends us
    try:
        work = begin(*arguments)
        while True:
            for result in work(pipe.recv()):
                pipe.send(result)
            pipe.send(_IDLE)
    except (EOFError, BrokenPipeError):  # the first process is gone
        return
    # For the first process to raise, whatever it is.
    except Exception as error:
        pipe.send(error)
