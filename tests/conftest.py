"""What several tests share: a tiny experiment, and two ranks that stay up for the session."""

import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import yaml

from colorization import config
from colorization.experiment import Experiment
from rank_pool import RankPool
from tiny_experiment import TINY

# What a shell starts in the background ignores Ctrl-C, and so would what tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def tiny() -> Callable[..., Experiment]:
    """Make a GAN of a few thousand weights, 32 pixels, three epochs of two steps: half a second.

    `tiny("model.lambda_l1=1", stages={...})` changes settings, and the stages altogether.
    """

    def make(*overrides: str, stages: dict[str, Any] | None = None) -> Experiment:
        data = yaml.safe_load(TINY)
        if stages is not None:
            data["train"]["stages"] = stages
        return config.parse(Experiment, config.override(data, config.parse_overrides(overrides)))

    return make


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Sums in one order only, here and in other processes, for comparisons bit for bit."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RankPool]:
    """Two processes in one gloo group over loopback."""
    with RankPool(2, tmp_path_factory.mktemp("ranks")) as pool:
        yield pool
