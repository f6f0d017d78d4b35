"""Processes in one gloo group, and what tests let every one of them do."""

import copy
import multiprocessing
import traceback
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple, Self
from unittest import mock

import torch
import torch.distributed as dist
from torch import Tensor, nn

from colorization import training
from colorization.distributed import current_ranks, replicate, share_batch_statistics
from colorization.equal_ranks import RanksDiffer, require_equal_weights
from colorization.experiment import Experiment
from colorization.loss_log import Diverged
from colorization.losses import gradient_penalty
from colorization.stage import StageRun

PATIENCE = 120  # seconds; a rank that waits for another one longer than this hangs


class Fitted(NamedTuple):
    """What one rank holds after a run."""

    states: list[dict[str, Any]]  # StageRun.state() after each epoch
    scores: list[dict[str, float]]  # as reported on this rank, epoch by epoch
    gray: dict[str, float]  # leave-gray's scores, as reported on this rank
    diverged: str | None


class RankPool:
    """Processes that run the same function at the same time; they start once for many tests."""

    def __init__(self, size: int, folder: Path) -> None:
        self._size = size
        self._folder = folder
        self._calls = 0
        self._context = multiprocessing.get_context("spawn")
        self._ranks: list[tuple[Any, Connection]] = []

    def __enter__(self) -> Self:
        rendezvous = self._folder / "rendezvous"
        for rank in range(self._size):
            ours, theirs = self._context.Pipe()
            process = self._context.Process(
                target=_serve, args=(rank, self._size, rendezvous, theirs), daemon=True
            )
            process.start()
            theirs.close()  # so that the end of the process ends our reading
            self._ranks.append((process, ours))
        return self

    def __exit__(self, *_: object) -> None:
        for process, connection in self._ranks:
            connection.close()
            process.join(10)
            if process.is_alive():
                process.kill()

    def run(self, function: Callable[..., Any], *arguments: Any) -> list[Any]:
        """Call a function of a module beside this one on every rank; answers in rank order."""
        self._calls += 1
        for rank, (_, connection) in enumerate(self._ranks):
            answer = self._folder / f"answer-{self._calls}-{rank}.pt"
            connection.send((function, arguments, answer))
        answers, faults = [], []
        for rank, (_, connection) in enumerate(self._ranks):
            if not connection.poll(PATIENCE):
                for process, _ in self._ranks:
                    process.kill()  # an answer that came late would be taken for a later one
                raise TimeoutError(f"rank {rank} hangs in {function.__name__}")
            fault, answer = connection.recv()
            if fault:
                faults.append(f"rank {rank}: {fault}")
            else:
                answers.append(torch.load(answer, weights_only=False))  # our own, of a moment ago
        if faults:
            raise RuntimeError("\n".join(faults))
        return answers


def _serve(rank: int, size: int, rendezvous: Path, connection: Connection) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{rendezvous}",
        rank=rank,
        world_size=size,
        timeout=timedelta(seconds=PATIENCE / 2),
    )
    while True:
        try:
            function, arguments, path = connection.recv()
        except EOFError:
            break
        try:
            torch.save(function(*arguments), path)
            connection.send((None, path))
        except Exception:
            connection.send((traceback.format_exc(), None))
    dist.destroy_process_group()


def penalty_gradients(network: nn.Module, pictures: Tensor) -> dict[str, Tensor]:
    """Return the gradients that a critic's turn on this rank's share of pictures gives."""
    ranks = current_ranks("cpu")
    network = replicate(share_batch_statistics(network.train(), ranks), ranks)
    share = pictures.chunk(ranks.size)[ranks.rank]
    penalty = gradient_penalty(network, share, share)  # between equals: nothing is drawn
    (network(share).mean() + penalty).backward()
    return {name: p.grad for name, p in network.named_parameters() if p.grad is not None}


def fit(experiment: Experiment, run: Path, stop_after: int | None = None) -> Fitted:
    """Train, and keep what only this process sees; `stop_after` an epoch somebody hits Ctrl-C."""
    states: list[dict[str, Any]] = []
    reports: list[training.Report] = []

    class Watched(StageRun):
        def state(self) -> dict[str, Any]:
            state = super().state()
            states.append(copy.deepcopy(state))
            return state

    def report(news: training.Report) -> None:
        reports.append(news)
        if news.epoch == stop_after:
            raise KeyboardInterrupt

    diverged = None
    with mock.patch.object(training, "StageRun", Watched):
        try:
            training.fit(experiment, run, report=report)
        except Diverged as error:
            diverged = str(error)
        except KeyboardInterrupt:
            assert stop_after is not None
    gray = reports[-1].gray if reports else {}
    return Fitted(states, [news.metrics for news in reports], gray, diverged)


def require_equal(changed_rank: int | None) -> str:
    """Build one network on all ranks, change a weight of one by a bit; return the error, or ""."""
    ranks = current_ranks()
    torch.manual_seed(0)
    last = nn.Linear(3, 2).to(torch.bfloat16)
    network = nn.Sequential(nn.Linear(3, 3), last)
    if ranks.rank == changed_rank:
        with torch.no_grad():
            weight = last.weight[0, 0]
            weight.copy_(torch.nextafter(weight, weight + 1))
    try:
        require_equal_weights(network, ranks, "after epoch 3")
    except RanksDiffer as error:
        return str(error)
    return ""
