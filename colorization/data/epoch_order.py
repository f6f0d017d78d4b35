"""Which pictures each step of an epoch shows: drawn from seed and epoch alone.

An order is an array (steps, batch size) of indices for all ranks together; a rank takes its columns
of it, so that the number of ranks changes nothing.
"""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from colorization.data.picture_sets import PictureSet

_ORDER = 1  # what these draws are for: crops are drawn from the same seed and epoch
_LEAST_BLOCKS = 8  # in a lane: with fewer, an epoch's batches would be too much alike
_WINDOW = 2  # blocks that are shuffled together


@runtime_checkable
class Blocked(Protocol):
    """A picture set that is to be read block after block, because random access to it is slow."""

    @property
    def blocks(self) -> Sequence[range]:
        """The indices that lie together, as in one shard; each index in one block."""
        ...


class Shuffled:
    """All pictures in random order; those of a last batch that is not full are dropped."""

    def __init__(self, pictures: int, batch_size: int) -> None:
        """Prepare for so many pictures."""
        self._pictures, self._batch_size = pictures, batch_size
        self.steps = pictures // batch_size

    def draw(self, seed: int, epoch: int) -> np.ndarray:
        """Return the indices (steps, batch size) of an epoch."""
        order = np.arange(self._pictures, dtype=_index_type(self._pictures))
        np.random.default_rng((seed, _ORDER, epoch)).shuffle(order)
        return order[: self.steps * self._batch_size].reshape(self.steps, self._batch_size)


class Streamed:
    """Block after block, shuffled within windows of two, in lanes that share out the batch.

    An epoch permutes the blocks and deals them to the lanes. Each lane fills the same columns of
    every batch, so that a rank reads the blocks of its columns' lanes only, each of them once.
    Lanes run as long as the shortest that may be dealt; what others have left is dropped, in each
    epoch something else.
    """

    def __init__(self, blocks: Sequence[range], batch_size: int) -> None:
        """Prepare for blocks that are not empty; a batch may hold as many pictures as they do."""
        self._blocks, self._batch_size = blocks, batch_size
        lengths = sorted(map(len, blocks))
        self.lanes = _lanes(lengths, batch_size)
        self.steps = _shortest(lengths, self.lanes) * self.lanes // batch_size

    def draw(self, seed: int, epoch: int) -> np.ndarray:
        """Return the indices (steps, batch size) of an epoch."""
        rng = np.random.default_rng((seed, _ORDER, epoch))
        dealt = rng.permutation(len(self._blocks))
        share = self._batch_size // self.lanes
        last = max(block.stop for block in self._blocks)
        order = np.empty((self.steps, self._batch_size), _index_type(last))
        for lane in range(self.lanes):
            windows: list[np.ndarray] = []
            blocks = [self._blocks[number] for number in dealt[lane :: self.lanes]]
            for first in range(0, len(blocks), _WINDOW):
                together = blocks[first : first + _WINDOW]
                windows.append(np.concatenate([np.arange(b.start, b.stop) for b in together]))
                rng.shuffle(windows[-1])
            indices = np.concatenate(windows)[: self.steps * share]
            order[:, lane * share : (lane + 1) * share] = indices.reshape(self.steps, share)
        return order


def order_of(pictures: PictureSet, batch_size: int) -> Shuffled | Streamed:
    """Return the order that suits a set: streamed where it has blocks, else wholly random."""
    if isinstance(pictures, Blocked):
        return Streamed(pictures.blocks, batch_size)
    return Shuffled(len(pictures), batch_size)


def _lanes(lengths: Sequence[int], batch_size: int) -> int:
    """Return the most lanes that share the batch equally, have blocks enough, and lose little.

    With one lane there is a step wherever the pictures fill a batch; more lanes keep it.
    """
    for lanes in range(min(batch_size, len(lengths) // _LEAST_BLOCKS), 1, -1):
        # Blocks of one length always keep so much of an epoch; others are dealt to fewer lanes.
        kept = _shortest(lengths, lanes) * lanes
        if batch_size % lanes == 0 and kept >= max(batch_size, sum(lengths) * 7 / 8):
            return lanes
    return 1


def _shortest(lengths: Sequence[int], lanes: int) -> int:
    """Return how many pictures the shortest lane can have, for lengths in ascending order."""
    return sum(lengths[: len(lengths) // lanes])


def _index_type(count: int) -> type[np.signedinteger]:
    return np.int32 if count < 2**31 else np.int64
