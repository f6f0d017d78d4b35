from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from colorization.data.epoch_order import Shuffled, Streamed, order_of
from colorization.data.loaders import TrainingLoader
from colorization.data.sources import DataConfig

steadily = settings(derandomize=True, deadline=None, max_examples=60)
seeds = st.integers(0, 2**31)
batch_sizes = st.sampled_from([1, 2, 3, 4, 6, 8, 12, 64])


def ranges(lengths: Sequence[int]) -> list[range]:
    return [range(start, stop) for start, stop in pairwise(accumulate(lengths, initial=0))]


@st.composite
def block_lists(draw: st.DrawFn) -> list[range]:
    """Shards as a preparation writes them, equal but for one picture, or of any lengths."""
    count = draw(st.integers(1, 70))
    if draw(st.booleans()):
        length = draw(st.integers(1, 20))
        lengths = [length + draw(st.integers(0, 1)) for _ in range(count)]
    else:
        lengths = draw(st.lists(st.integers(1, 50), min_size=count, max_size=count))
    return ranges(lengths)


@dataclass(frozen=True)
class Shards:
    """Pictures in blocks; each is of one color that stands for its index."""

    blocks: Sequence[range]

    def __len__(self) -> int:
        return self.blocks[-1].stop

    def picture(self, index: int, short_side: int = 0) -> np.ndarray:
        return np.full((16, 16, 3), index, np.uint8)

    def name(self, index: int) -> str:
        return str(index)


@steadily
@given(st.integers(1, 500), batch_sizes, seeds, st.integers(0, 1000))
def test_a_shuffled_epoch_shows_no_picture_twice_and_drops_less_than_a_batch(
    pictures: int, batch_size: int, seed: int, epoch: int
) -> None:
    order = Shuffled(pictures, batch_size)
    shown = order.draw(seed, epoch)
    assert shown.shape == (order.steps, batch_size)
    assert 0 <= pictures - shown.size < batch_size
    assert len(np.unique(shown)) == shown.size
    assert set(shown.flat) <= set(range(pictures))


def test_a_shuffled_order_is_that_of_numpy_and_takes_four_bytes_a_picture() -> None:
    order = Shuffled(1000, 10).draw(3, 5)
    assert order.dtype == np.int32
    expected = np.random.default_rng((3, 1, 5)).permutation(1000)
    assert np.array_equal(order.ravel(), expected)


@steadily
@given(block_lists(), batch_sizes, seeds, st.integers(0, 1000))
def test_a_streamed_epoch_shows_no_picture_twice_in_as_many_steps_as_any_other(
    blocks: list[range], batch_size: int, seed: int, epoch: int
) -> None:
    order = Streamed(blocks, batch_size)
    for drawn in (order.draw(seed, epoch), order.draw(seed, epoch + 1)):
        assert drawn.shape == (order.steps, batch_size)
        assert len(np.unique(drawn)) == drawn.size
        assert set(drawn.flat) <= set(range(blocks[-1].stop))


@steadily
@given(block_lists(), batch_sizes)
def test_a_streamed_epoch_leaves_out_an_eighth_of_the_pictures_and_a_batch_at_most(
    blocks: list[range], batch_size: int
) -> None:
    pictures = blocks[-1].stop
    assert Streamed(blocks, batch_size).steps * batch_size > pictures * 7 / 8 - batch_size


@steadily
@given(block_lists(), st.data(), seeds)
def test_a_streamed_epoch_has_a_step_wherever_the_pictures_fill_a_batch(
    blocks: list[range], data: st.DataObject, seed: int
) -> None:
    pictures = blocks[-1].stop
    shared_by = data.draw(st.integers(1, max(1, min(pictures, len(blocks) // 8))))
    batch_size = pictures // shared_by * shared_by
    order = Streamed(blocks, batch_size)
    assert order.steps >= 1
    assert order.draw(seed, 0).shape == (order.steps, batch_size)


def test_a_batch_of_all_pictures_is_streamed_in_one_lane() -> None:
    blocks = ranges([17] * 12 + [16] * 4)
    assert Streamed(blocks, 268).steps == 1


@steadily
@given(block_lists(), batch_sizes, seeds)
def test_no_block_is_read_by_two_lanes_and_each_lane_reads_it_at_a_stretch(
    blocks: list[range], batch_size: int, seed: int
) -> None:
    order = Streamed(blocks, batch_size)
    assert batch_size % order.lanes == 0
    starts = np.array([block.start for block in blocks])
    read = np.searchsorted(starts, order.draw(seed, 0), side="right") - 1  # the block of each
    readers: dict[int, int] = {}
    for lane, columns in enumerate(np.split(read, order.lanes, axis=1)):
        open_blocks: list[int] = []
        for block in columns.ravel().tolist():
            assert readers.setdefault(block, lane) == lane
            if block not in open_blocks:
                open_blocks.append(block)
            # Two are open at a time, the two before them are done with.
            window = (len(open_blocks) - 1) // 2 * 2
            assert open_blocks.index(block) >= window


@pytest.mark.parametrize(
    ("blocks", "batch_size", "lanes"),
    [
        (1, 8, 1),
        (15, 8, 1),
        (16, 8, 2),
        (33, 8, 4),
        (64, 8, 8),
        (640, 8, 8),
        (64, 12, 6),
        (64, 7, 7),
    ],
)
def test_there_are_as_many_lanes_as_blocks_allow_and_divide_the_batch(
    blocks: int, batch_size: int, lanes: int
) -> None:
    assert Streamed(ranges([20] * blocks), batch_size).lanes == lanes


def test_blocks_of_very_unequal_lengths_are_not_dealt_out() -> None:
    assert Streamed(ranges([1] * 8 + [1000] * 8), 16).lanes == 1


@pytest.mark.parametrize("order", [Shuffled(64 * 9, 8), Streamed(ranges([9] * 64), 8)])
def test_epochs_and_seeds_have_orders_of_their_own_that_repeat(order: Shuffled | Streamed) -> None:
    drawn = {(seed, epoch): order.draw(seed, epoch) for seed in (0, 1) for epoch in (0, 1)}
    assert len({array.tobytes() for array in drawn.values()}) == 4
    assert all(np.array_equal(array, order.draw(*key)) for key, array in drawn.items())


def test_a_streamed_order_mixes_pictures_within_and_across_blocks() -> None:
    order = Streamed(ranges([50] * 16), 4).draw(0, 0)
    firsts = order[:, 0].tolist()[:25]  # the first lane's first window
    assert firsts != sorted(firsts)
    assert len({index // 50 for index in firsts}) == 2


def test_sets_with_blocks_are_streamed_and_others_shuffled() -> None:
    blocks = ranges([4] * 3)
    assert isinstance(order_of(Shards(blocks), 2), Streamed)
    assert isinstance(order_of(Plain(12), 2), Shuffled)


@dataclass(frozen=True)
class Plain:
    """Pictures at random access."""

    count: int

    def __len__(self) -> int:
        return self.count

    def picture(self, index: int, short_side: int = 0) -> np.ndarray:
        return np.zeros((16, 16, 3), np.uint8)

    def name(self, index: int) -> str:
        return str(index)


@pytest.mark.parametrize("world_size", [2, 4, 8])
@pytest.mark.parametrize("blocks", [ranges([5] * 40), ranges([3] * 7)])
def test_the_shares_of_streaming_ranks_are_together_the_batches_of_one(
    blocks: list[range], world_size: int
) -> None:
    def shares(rank: int, size: int) -> list[list[str]]:
        loader = TrainingLoader(
            Shards(blocks), DataConfig(size=16), batch_size=8, seed=1, rank=rank, world_size=size
        )
        batches = [batch.names for batch in loader.epoch(2)]
        assert len(batches) == len(loader)
        return batches

    whole = shares(0, 1)
    ranks = [shares(rank, world_size) for rank in range(world_size)]
    assert [[*chain(*parts)] for parts in zip(*ranks, strict=True)] == whole
    if len(blocks) == 40:  # four lanes: ranks read blocks of their own
        read = [{int(name) // 5 for batch in rank for name in batch} for rank in ranks[:2]]
        assert world_size == 8 or not read[0] & read[1]
