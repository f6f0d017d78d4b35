from collections.abc import Callable

import numpy as np
import pytest
import torch
from skimage.color import rgb2lab

import tiny_colorizers
from colorization.color_statistics import MOST_PICTURES, color_statistics
from colorization.config import ConfigError
from colorization.data import open_data
from colorization.data.transforms import scoring_crop
from colorization.distributed import current_ranks
from colorization.experiment import Experiment
from colorization.pictures import UnreadablePicture
from rank_pool import RankPool

Make = Callable[..., Experiment]


class Tiles:
    """Many pictures of one color each; remembers which were asked for."""

    def __init__(self, count: int, damaged: tuple[int, ...] = ()) -> None:
        self._count, self._damaged = count, damaged
        self.read: list[int] = []

    def __len__(self) -> int:
        return self._count

    def picture(self, index: int, short_side: int = 0) -> np.ndarray:
        self.read.append(index)
        if index in self._damaged:
            raise UnreadablePicture(f"{self.name(index)}: damaged")
        return np.full((16, 16, 3), (index % 256, 255 - index % 256, 90), np.uint8)

    def name(self, index: int) -> str:
        return f"tile-{index}"


def expected_of(pictures: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    ab = np.concatenate([rgb2lab(rgb)[..., 1:].reshape(-1, 2) for rgb in pictures]) / 110
    return ab.mean(0), ab.std(0)


def test_they_are_those_of_all_pixels_of_the_central_squares(tiny: Make) -> None:
    experiment = tiny("data.source.crops=70", "data.size=48")
    mean, deviation = tiny_colorizers.training_statistics(experiment)
    train = open_data(experiment.data).train
    expected = expected_of([scoring_crop(train.picture(index), 48) for index in range(70)])
    assert mean.dtype == deviation.dtype == torch.float32
    np.testing.assert_allclose(mean, expected[0], atol=1e-5)
    np.testing.assert_allclose(deviation, expected[1], atol=1e-5)
    assert deviation.min() > 0.05  # of photographs in color


def test_two_ranks_find_what_one_does(tiny: Make, two_ranks: RankPool) -> None:
    experiment = tiny("data.source.crops=67")
    one = torch.stack(tiny_colorizers.training_statistics(experiment))
    first, second = two_ranks.run(tiny_colorizers.training_statistics, experiment)
    assert torch.equal(torch.stack(first), torch.stack(second))
    torch.testing.assert_close(torch.stack(first), one, rtol=0, atol=1e-6)


def test_at_most_2000_pictures_are_read_evenly_out_of_a_large_set(tiny: Make) -> None:
    pictures = Tiles(9_001)
    found = color_statistics(pictures, tiny("data.size=16"), current_ranks("cpu"))
    assert len(pictures.read) == len(set(pictures.read)) == MOST_PICTURES == 2000
    steps = np.diff([*sorted(pictures.read), 9_001])
    assert (steps.min(), steps.max()) == (4, 5)
    of_those = Tiles(9_001)
    expected = expected_of([of_those.picture(index) for index in pictures.read[::8]])
    np.testing.assert_allclose(torch.stack(found), expected, atol=0.02)


def test_damaged_pictures_are_left_out(tiny: Make) -> None:
    damaged = tuple(range(64, 100))  # all of the second batch
    found = color_statistics(Tiles(100, damaged), tiny("data.size=16"), current_ranks("cpu"))
    whole = color_statistics(Tiles(64), tiny("data.size=16"), current_ranks("cpu"))
    assert torch.equal(torch.stack(found), torch.stack(whole))


@pytest.mark.parametrize("damaged", [(), tuple(range(20))])
def test_pictures_without_colors_or_none_at_all_are_refused(
    damaged: tuple[int, ...], tiny: Make
) -> None:
    class Gray(Tiles):
        def picture(self, index: int, short_side: int = 0) -> np.ndarray:
            return np.full_like(super().picture(index), index)

    left = 20 - len(damaged)
    with pytest.raises(ConfigError, match=rf"data\.source: the ab / 110 of {left} .*with colors"):
        color_statistics(Gray(20, damaged), tiny("data.size=16"), current_ranks("cpu"))


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("count", [1, 3])
def test_a_rank_without_pictures_takes_part(count: int, tiny: Make, two_ranks: RankPool) -> None:
    experiment = tiny(f"data.source.crops={count}")
    one = torch.stack(tiny_colorizers.training_statistics(experiment))
    for found in two_ranks.run(tiny_colorizers.training_statistics, experiment):
        torch.testing.assert_close(torch.stack(found), one, rtol=0, atol=1e-6)
