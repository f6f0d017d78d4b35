from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pytest
import torch

from colorization.config import ConfigError
from colorization.data.loaders import Batch, ScoringLoader, TrainingLoader
from colorization.data.sources import DataConfig
from colorization.pictures import UnreadablePicture

SIZE = 16


@dataclass(frozen=True)
class Noise:
    """Random pictures, some of them damaged."""

    count: int
    damaged: set[int] = field(default_factory=set)

    def __len__(self) -> int:
        return self.count

    def picture(self, index: int, short_side: int = 0) -> np.ndarray:
        if index in self.damaged:
            raise UnreadablePicture(f"{self.name(index)} is damaged")
        shape = (20 + index % 3, 24, 3)
        return np.random.default_rng(index).integers(0, 256, shape, dtype=np.uint8)

    def name(self, index: int) -> str:
        return f"noise {index}"


def config(loader_workers: int = 0, max_unreadable: float = 0.5) -> DataConfig:
    return DataConfig(size=SIZE, loader_workers=loader_workers, max_unreadable=max_unreadable)


def training(
    pictures: Noise, batch_size: int = 4, rank: int = 0, world_size: int = 1, workers: int = 0
) -> TrainingLoader:
    return TrainingLoader(
        pictures, config(workers), batch_size=batch_size, seed=7, rank=rank, world_size=world_size
    )


def same(first: Batch, second: Batch) -> bool:
    return torch.equal(first.rgb, second.rgb) and first[1:] == second[1:]


def test_a_training_batch_is_uint8_of_the_size_asked_for() -> None:
    batch = next(training(Noise(9)).epoch(0))
    assert batch.rgb.shape == (4, 3, SIZE, SIZE)
    assert batch.rgb.dtype == torch.uint8
    assert batch.rgb.is_contiguous(memory_format=torch.channels_last)
    assert len(batch.names) == 4
    assert batch.unreadable == []


def test_an_epoch_shows_no_picture_twice_and_drops_the_incomplete_batch() -> None:
    loader = training(Noise(11))
    names = [name for batch in loader.epoch(0) for name in batch.names]
    assert len(loader) == 2
    assert len(names) == len(set(names)) == 8


def test_an_epoch_repeats_exactly_whatever_came_before() -> None:
    loader = training(Noise(12))
    first = list(loader.epoch(3))
    next(loader.epoch(5))
    again = [list(loader.epoch(3)), list(training(Noise(12)).epoch(3))]
    assert all(same(a, b) for run in again for a, b in zip(first, run, strict=True))


def test_another_epoch_brings_another_order_and_other_crops() -> None:
    loader = training(Noise(12), batch_size=12)
    first, second = next(loader.epoch(0)), next(loader.epoch(1))
    assert first.names != second.names
    assert sorted(first.names) == sorted(second.names)
    at = [batch.names.index("noise 0") for batch in (first, second)]
    assert not torch.equal(first.rgb[at[0]], second.rgb[at[1]])


def test_two_or_four_ranks_share_the_batches_of_one() -> None:
    pictures = Noise(18, damaged={3})
    whole = list(training(pictures, batch_size=8).epoch(2))
    for world_size in (2, 4):
        ranks = [
            list(training(pictures, 8, rank, world_size).epoch(2)) for rank in range(world_size)
        ]
        for together, *parts in zip(whole, *ranks, strict=True):
            assert torch.equal(together.rgb, torch.cat([part.rgb for part in parts]))
            assert together.names == [name for part in parts for name in part.names]


def test_loader_processes_change_nothing_over_several_epochs() -> None:
    pictures = Noise(18, damaged={3})
    alone, helped = training(pictures), training(pictures, workers=2)
    for epoch in (0, 1, 0):
        for a, b in zip(alone.epoch(epoch), helped.epoch(epoch), strict=True):
            assert same(a, b)


def test_loader_processes_live_on_from_epoch_to_epoch() -> None:
    loader = training(Noise(8), workers=1)
    list(loader.epoch(0))
    iterator = loader._loader._iterator
    list(loader.epoch(1))
    assert iterator is not None
    assert loader._loader._iterator is iterator


def test_loading_leaves_the_global_random_state_alone() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    list(training(Noise(8)).epoch(0))
    list(ScoringLoader(Noise(8), config(), batch_size=4))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_damaged_picture_is_replaced_by_the_next_and_named() -> None:
    (batch,) = training(Noise(6, damaged={2, 3}), batch_size=6).epoch(0)
    assert batch.names.count("noise 4") == 3
    assert "noise 2" not in batch.names
    assert "noise 3" not in batch.names
    assert sorted(batch.unreadable) == ["noise 2", "noise 3"]


def test_the_last_picture_is_replaced_by_the_first() -> None:
    (batch,) = training(Noise(6, damaged={5}), batch_size=6).epoch(0)
    assert batch.names.count("noise 0") == 2


@pytest.mark.parametrize("workers", [0, 1])
def test_too_many_damaged_pictures_end_training_with_names_and_key(workers: int) -> None:
    loader = TrainingLoader(
        Noise(20, damaged={1, 5, 9}), config(workers, 0.1), batch_size=4, seed=0
    )
    with pytest.raises(ConfigError, match=r"data\.max_unreadable: 3 training .*noise 1, noise 5"):
        list(loader.epoch(0))


def test_the_same_damaged_pictures_count_once_over_all_epochs() -> None:
    loader = TrainingLoader(Noise(20, damaged={1, 5}), config(0, 0.1), batch_size=4, seed=0)
    for epoch in range(4):
        assert len(list(loader.epoch(epoch))) == 5


def test_a_set_of_damaged_pictures_only_is_an_error() -> None:
    loader = TrainingLoader(Noise(3, damaged={0, 1, 2}), config(0, 1.0), batch_size=1, seed=0)
    with pytest.raises(ConfigError, match="none of the 3 training pictures"):
        list(loader.epoch(0))


@pytest.mark.parametrize(
    ("batch_size", "world_size", "advice"),
    [
        (5, 2, "take 4 or 6$"),
        (1, 2, "take 2$"),
        (10, 4, "take 8$"),
        (64, 1, "take 10$"),
        (64, 4, "take 8$"),
        (16, 16, "fewer than 16 workers"),
    ],
)
def test_a_batch_that_cannot_be_shared_is_refused_with_the_nearest_that_can(
    batch_size: int, world_size: int, advice: str
) -> None:
    with pytest.raises(ConfigError, match=advice):
        training(Noise(10), batch_size, 0, world_size)


@pytest.mark.parametrize(("world_size", "workers"), [(1, 0), (3, 0), (8, 0), (1, 2)])
def test_scoring_shows_every_picture_once_and_in_order_over_uneven_ranks(
    world_size: int, workers: int
) -> None:
    names: list[str] = []
    for rank in range(world_size):
        loader = ScoringLoader(
            Noise(7), config(workers), batch_size=2, rank=rank, world_size=world_size
        )
        batches = list(loader)
        assert len(batches) == len(loader)
        names += [name for batch in batches for name in batch.names]
    assert names == [f"noise {index}" for index in range(7)]


def test_shares_of_scoring_ranks_differ_by_at_most_one() -> None:
    shares = [
        sum(len(b.names) for b in ScoringLoader(Noise(11), config(), batch_size=2, rank=r,
                                               world_size=4))
        for r in range(4)
    ]  # fmt: skip
    assert sum(shares) == 11
    assert max(shares) - min(shares) == 1


def test_scoring_leaves_a_damaged_picture_out_and_names_it() -> None:
    first, second = ScoringLoader(Noise(4, damaged={0, 2, 3}), config(), batch_size=2)
    assert first.names == ["noise 1"]
    assert first.unreadable == ["noise 0"]
    assert first.rgb.shape == (1, 3, SIZE, SIZE)
    assert second.names == []
    assert second.rgb.shape == (0, 3, SIZE, SIZE)
    assert second.unreadable == ["noise 2", "noise 3"]


def test_scoring_twice_gives_the_same_pictures() -> None:
    loader = ScoringLoader(Noise(5), config(), batch_size=2)
    assert all(same(a, b) for a, b in zip(loader, loader, strict=True))


def test_two_seeds_give_two_orders() -> None:
    orders = [
        [n for b in TrainingLoader(Noise(12), config(), batch_size=4, seed=s).epoch(0)
         for n in b.names]
        for s in range(4)
    ]  # fmt: skip
    assert all(a != b for a, b in pairwise(orders))
