"""What several tests share: a tiny experiment, and two ranks that stay up for the session."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from colorization import config
from colorization.experiment import Experiment

sys.path.insert(0, str(Path(__file__).parent))  # rank_pool.py, here and in the ranks it starts

from rank_pool import RankPool

TINY = """
data: {source: {name: sample, crops: 16, scoring_crops: 8}, size: 32}
model:
  name: gan
  generator: {name: unet, width: 4, normalization: group, dropout: 0}
  discriminator: {name: patch, width: 4, layers: 1, normalization: group}
  discriminator_steps: 2
train:
  batch_size: 8
  precision: float32
  grid_pictures: 2
  stages:
    head_start: {turns: l1, epochs: 1, select: false}
    adversarial: {turns: adversarial, epochs: 2}
"""


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
