"""Batches of square pictures, the same on any number of ranks and loader processes."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from colorization.config import ConfigError
from colorization.data.epoch_order import Shuffled, Streamed, order_of
from colorization.data.picture_sets import PictureSet, planes_of, some_names
from colorization.data.sources import DataConfig
from colorization.data.transforms import scoring_crop, training_crop
from colorization.pictures import UnreadablePicture

_AUGMENTATION = 2  # what these draws are for: orders are drawn from the same seed and epoch


class Batch(NamedTuple):
    """Pictures of one step on one rank."""

    rgb: Tensor  # uint8 (b, 3, size, size), channels last in memory
    names: list[str]  # of the b pictures
    unreadable: list[str]  # of pictures that turned out damaged while this batch was decoded
    # uint8 (b, 2, size, size): `ab_to_bytes` of colors that parts have already, where the set says
    colored: Tensor | None = None


class TrainingLoader:
    """Shuffled, augmented batches: one loader serves all epochs, its processes stay alive.

    The i-th global batch of an epoch holds the same pictures, cropped and mirrored alike, on any
    number of ranks and loader processes: the order is drawn from (seed, epoch), see `epoch_order`,
    each crop from (seed, epoch, index of the picture). Rank r gets the r-th of equal contiguous
    shares; a last batch that is not full is dropped. A picture that cannot be decoded is replaced
    by the next of the set and named in the batch. Torch's global random state is left alone.
    """

    def __init__(
        self,
        pictures: PictureSet,
        config: DataConfig,
        *,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        """Prepare the loader; `batch_size` counts the pictures of all ranks together.

        Raises ConfigError where the ranks cannot share the batch equally or the set is smaller than
        one batch, with the nearest sizes that work.
        """
        check_batch_size(batch_size, len(pictures), world_size)
        share = batch_size // world_size
        columns = slice(rank * share, (rank + 1) * share)
        self._order = _RankBatches(order_of(pictures, batch_size), seed, columns)
        self._bad: set[str] = set()
        self._most_bad = config.max_unreadable * len(pictures)
        self._loader = _data_loader(_TrainingPictures(pictures, config, seed), self._order, config)

    def __len__(self) -> int:
        """Return the steps of an epoch."""
        return len(self._order)

    def epoch(self, number: int) -> Iterator[Batch]:
        """Yield this rank's batches of an epoch.

        Raises ConfigError once more pictures than the share `data.max_unreadable` have turned out
        damaged, counted over all epochs of this loader.
        """
        self._order.epoch = number
        for batch in self._loader:
            self._bad.update(batch.unreadable)
            if len(self._bad) > self._most_bad:
                raise ConfigError(
                    f"data.max_unreadable: {len(self._bad)} training pictures are damaged, at most "
                    f"{self._most_bad:g} may be: {some_names(sorted(self._bad))}"
                )
            yield batch


class ScoringLoader:
    """Every picture exactly once over the ranks, in order, its central square without augmentation.

    Rank r gets a contiguous share; shares differ by at most one picture and may be empty, so no
    collective operation may depend on the number of batches. A picture that cannot be decoded is
    left out and named, never replaced: scores keep an honest sample size. May be iterated again.
    """

    def __init__(
        self,
        pictures: PictureSet,
        config: DataConfig,
        *,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        """Prepare the loader; `batch_size` counts the pictures of this rank alone."""
        start, stop = (len(pictures) * r // world_size for r in (rank, rank + 1))
        share = range(start, stop)
        self._batches = [share[i : i + batch_size] for i in range(0, len(share), batch_size)]
        self._loader = _data_loader(_ScoringPictures(pictures, config.size), self._batches, config)

    def __len__(self) -> int:
        """Return the number of this rank's batches."""
        return len(self._batches)

    def __iter__(self) -> Iterator[Batch]:
        """Yield this rank's batches; one of damaged pictures only is empty."""
        return iter(self._loader)


class _Item(NamedTuple):
    planes: np.ndarray | None  # (size, size, 3 or 5)
    name: str
    unreadable: list[str]


class _RankBatches:
    """The batch sampler: (epoch, index of the picture) for the pictures of each step of a rank."""

    def __init__(self, order: Shuffled | Streamed, seed: int, columns: slice) -> None:
        self.epoch = 0
        self._order = order
        self._seed = seed
        self._columns = columns

    def __len__(self) -> int:
        return self._order.steps

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        epoch = self.epoch
        for batch in self._order.draw(self._seed, epoch)[:, self._columns]:
            yield [(epoch, index) for index in batch.tolist()]


class _TrainingPictures(Dataset[_Item]):
    def __init__(self, pictures: PictureSet, config: DataConfig, seed: int) -> None:
        self._pictures = pictures
        self._config = config
        self._seed = seed
        self._short_side = needed_short_side(config)

    def __getitem__(self, index: tuple[int, int]) -> _Item:
        epoch, first = index
        unreadable: list[str] = []
        for step in range(len(self._pictures)):
            at = (first + step) % len(self._pictures)
            try:
                planes = planes_of(self._pictures, at, self._short_side)
            except UnreadablePicture:
                unreadable.append(self._pictures.name(at))
                continue
            config = self._config
            rng = np.random.default_rng((self._seed, _AUGMENTATION, epoch, first))
            crop = training_crop(planes, config.size, config.crop_scale, config.flip, rng)
            return _Item(crop, self._pictures.name(at), unreadable)
        raise ConfigError(
            f"data.source: none of the {len(unreadable)} training pictures can be decoded: "
            f"{some_names(unreadable)}"
        )


class _ScoringPictures(Dataset[_Item]):
    def __init__(self, pictures: PictureSet, size: int) -> None:
        self._pictures = pictures
        self._size = size

    def __getitem__(self, index: int) -> _Item:
        name = self._pictures.name(index)
        try:
            planes = planes_of(self._pictures, index, self._size)
        except UnreadablePicture:
            return _Item(None, name, [name])
        return _Item(scoring_crop(planes, self._size), name, [])


class _Collate:
    """Items to a batch; a class and no closure, so that worker processes can be spawned as well."""

    def __init__(self, size: int) -> None:
        self._size = size

    def __call__(self, items: Sequence[_Item]) -> Batch:
        pictures = [item.planes for item in items if item.planes is not None]
        empty = np.empty((0, self._size, self._size, 3), np.uint8)
        planes = np.stack(pictures) if pictures else empty
        rgb = torch.from_numpy(np.ascontiguousarray(planes[..., :3]))
        colored = None
        if planes.shape[-1] > 3:
            colored = torch.from_numpy(planes[..., 3:].transpose(0, 3, 1, 2).copy())
        return Batch(
            rgb.permute(0, 3, 1, 2),
            [item.name for item in items if item.planes is not None],
            list(dict.fromkeys(name for item in items for name in item.unreadable)),
            colored,
        )


def _data_loader(dataset: Dataset[_Item], batches: Any, config: DataConfig) -> DataLoader[Any]:
    # A generator of its own: DataLoader draws a seed at every start, and out of torch's global
    # state it would make training depend on how often somebody scores.
    return DataLoader(
        dataset,
        batch_sampler=batches,
        collate_fn=_Collate(config.size),
        num_workers=config.loader_workers,
        persistent_workers=config.loader_workers > 0,
        worker_init_fn=_one_thread,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),
    )


def _one_thread(worker: int) -> None:
    cv2.setNumThreads(0)  # processes times threads would be more than there are processors


def needed_short_side(config: DataConfig) -> int:
    """Return how many pixels the short side of a training picture needs, so that of the smallest
    crop there are as many pixels as are trained on."""
    return math.ceil(config.size / config.crop_scale[0])


def check_batch_size(batch_size: int, pictures: int, world_size: int) -> None:
    """Raise ConfigError, with the nearest sizes that work, for a batch that cannot be shared.

    `batch_size` counts the pictures of all `world_size` ranks, `pictures` those of the set.
    """
    if batch_size % world_size == 0 and 0 < batch_size <= pictures:
        return
    most = pictures // world_size * world_size
    if most == 0:
        raise ConfigError(
            f"train.batch_size: {pictures} training pictures are fewer than {world_size} workers; "
            "add pictures or take fewer workers"
        )
    below = min(batch_size // world_size * world_size, most)
    sizes = sorted({size for size in (below, below + world_size) if 0 < size <= most})
    raise ConfigError(
        f"train.batch_size: found {batch_size}; {world_size} workers share it equally and the set "
        f"holds {pictures} pictures: take {' or '.join(map(str, sizes))}"
    )
