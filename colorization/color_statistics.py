"""Mean and standard deviation of the colors of a training set."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from colorization.color import rgb_to_lab
from colorization.config import ConfigError
from colorization.data import PictureSet, ScoringLoader
from colorization.distributed import Ranks, mean_over_ranks
from colorization.experiment import Experiment

_LEAST_DEVIATION = 1e-3  # of scaled ab: what rounding to 8 bits alone does to color
MOST_PICTURES = 2000  # looked at; the standard error of a mean is then 2% of a picture's deviation


def color_statistics(
    pictures: PictureSet, experiment: Experiment, ranks: Ranks
) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation, (2,) each, of the scaled ab of a training set.

    Of its central squares, of 2,000 pictures evenly out of the set where it has more. The same on
    every rank, and for any number of them but for round-off. Raises ConfigError for pictures that
    are gray, or that cannot be read.
    """
    loader = ScoringLoader(
        _Spread(pictures),
        experiment.data,
        batch_size=64,
        rank=ranks.rank,
        world_size=ranks.size,
    )
    sums = torch.zeros(3, 2, dtype=torch.float64, device=ranks.device)  # count, ab, its square
    for batch in loader:
        ab = rgb_to_lab(batch.rgb.to(ranks.device))[:, 1:].double()
        sums[0] += ab[:, 0].numel()
        sums[1] += ab.sum((0, 2, 3))
        sums[2] += ab.square().sum((0, 2, 3))
    count, total, squares = mean_over_ranks(sums, ranks).unbind()
    mean = total / count
    deviation = (squares / count - mean.square()).clamp(min=0).sqrt()
    if not (deviation > _LEAST_DEVIATION).all():  # or not a number, where none could be read
        looked_at = round(float(count[0]) * ranks.size) // experiment.data.size**2
        raise ConfigError(
            f"data.source: the ab / 110 of {looked_at} training pictures deviate by "
            f"{deviation[0]:.1g} and {deviation[1]:.1g}; {experiment.model.name} needs pictures "
            f"with colors, {_LEAST_DEVIATION:g} at least"
        )
    return mean.float(), deviation.float()


@dataclass(frozen=True)
class _Spread:
    """Pictures evenly out of a set, at most MOST_PICTURES."""

    pictures: PictureSet

    def __len__(self) -> int:
        return min(MOST_PICTURES, len(self.pictures))

    def _at(self, index: int) -> int:
        return index * len(self.pictures) // len(self)

    def picture(self, index: int, short_side: int = 0) -> np.ndarray:
        return self.pictures.picture(self._at(index), short_side)

    def name(self, index: int) -> str:
        return self.pictures.name(self._at(index))
