import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from colorization.color import rgb_to_lab
from colorization.config import ConfigError
from colorization.data.transforms import scoring_crop
from colorization.distributed import current_ranks
from colorization.evaluation import Evaluation
from colorization.experiment import Experiment
from colorization.loss_log import Diverged
from colorization.models.colorizer import Colorizer, Progress, Turn
from colorization.pictures import UnreadablePicture

Make = Callable[..., Experiment]


class Photos:
    """Pictures in memory, all different; those at `damaged` cannot be decoded."""

    def __init__(self, count: int, damaged: tuple[int, ...] = (), side: int = 40) -> None:
        rng = np.random.default_rng(0)
        coarse = rng.integers(0, 256, (count, side // 8, side // 8, 3), dtype=np.uint8)
        self._rgb = coarse.repeat(8, axis=1).repeat(8, axis=2)
        self._damaged = damaged

    def __len__(self) -> int:
        return len(self._rgb)

    def picture(self, index: int, short_side: int = 0) -> np.ndarray:
        if index in self._damaged:
            raise UnreadablePicture(f"{self.name(index)}: damaged")
        return self._rgb[index]

    def name(self, index: int) -> str:
        return f"photo-{index}.png"


class OneColor(Colorizer):
    """The same color everywhere, more of it where it is light."""

    players = ()

    def __init__(self, a: float, b: float) -> None:
        super().__init__()
        self.ab = torch.tensor([a, b]).view(1, 2, 1, 1)

    def turns(self, lab: Tensor, progress: Progress) -> Iterator[Turn]:
        del lab, progress
        yield from ()

    def colorize(
        self,
        lightness: Tensor,
        samples: int = 1,
        temperature: float | None = None,
        seed: int = 0,
    ) -> Tensor:
        del temperature, seed
        ab = self.ab * (lightness + 1) / 2
        return ab.expand(samples, *ab.shape)


def evaluation(experiment: Experiment, photos: Photos) -> Evaluation:
    return Evaluation(experiment, photos, current_ranks("cpu"))


@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_scores_do_not_depend_on_the_batch_size(batch_size: int, tiny: Make) -> None:
    photos, model = Photos(10), OneColor(0.1, -0.2)
    found, expected = (
        evaluation(tiny(f"train.batch_size={size}"), photos) for size in (batch_size, 10)
    )
    scores = found.scores(model, found.leave_gray())
    others = expected.scores(model, expected.leave_gray())
    assert scores["pictures"] == 10
    assert scores == pytest.approx(others, rel=1e-6, abs=1e-6)


def test_leave_gray_is_what_a_model_without_color_scores(tiny: Make) -> None:
    photos = Photos(4)
    scored = evaluation(tiny(), photos)
    gray = scored.leave_gray()
    scores = scored.scores(OneColor(0, 0), gray)
    assert scores.pop("against_gray") == pytest.approx(1)
    assert scores == gray
    crops = torch.stack([torch.from_numpy(scoring_crop(photos.picture(i), 32)) for i in range(4)])
    ab = rgb_to_lab(crops.permute(0, 3, 1, 2))[:, 1:] * 110
    assert gray["ab_mae"] * 110 == pytest.approx(ab.abs().mean().item(), rel=1e-4)


def test_a_model_nearer_to_the_truth_than_gray_is_below_one(tiny: Make) -> None:
    class Truth(OneColor):
        def colorize(
            self,
            lightness: Tensor,
            samples: int = 1,
            temperature: float | None = None,
            seed: int = 0,
        ) -> Tensor:
            del temperature, seed
            return ab[None, : len(lightness)].expand(samples, -1, -1, -1, -1)

    photos = Photos(4)
    crops = torch.stack([torch.from_numpy(scoring_crop(photos.picture(i), 32)) for i in range(4)])
    ab = rgb_to_lab(crops.permute(0, 3, 1, 2))[:, 1:]
    scored = evaluation(tiny(), photos)
    scores = scored.scores(Truth(0, 0), scored.leave_gray())
    assert scores["ab_mae"] == 0
    assert scores["against_gray"] < 0.01


def test_damaged_pictures_are_counted_out_and_warned_about_by_name(
    tiny: Make, caplog: pytest.LogCaptureFixture
) -> None:
    experiment = tiny("data.max_unreadable=0.25", "train.batch_size=1")
    with caplog.at_level(logging.WARNING):
        gray = evaluation(experiment, Photos(8, damaged=(0, 5))).leave_gray()
    assert gray["pictures"] == 6
    assert "photo-0.png, photo-5.png" in caplog.text
    whole = Photos(8)
    whole._rgb = whole._rgb[[1, 2, 3, 4, 6, 7]]
    assert gray == pytest.approx(evaluation(experiment, whole).leave_gray(), abs=1e-6)


@pytest.mark.parametrize(("share", "damaged"), [(0.25, (1, 2, 3)), (1, tuple(range(8)))])
def test_too_many_damaged_pictures_are_refused(
    share: float, damaged: tuple[int, ...], tiny: Make
) -> None:
    scored = evaluation(tiny(f"data.max_unreadable={share}"), Photos(8, damaged))
    with pytest.raises(ConfigError, match=rf"{len(damaged)} of 8 pictures.*photo-1\.png"):
        scored.leave_gray()


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_model_that_answers_with_no_number_has_diverged(value: float, tiny: Make) -> None:
    scored = evaluation(tiny(), Photos(4))
    gray = scored.leave_gray()
    with pytest.raises(Diverged, match="4 of 4"):
        scored.scores(OneColor(0.1, value), gray)
    assert scored.scores(OneColor(0.1, 0.1), gray)["pictures"] == 4


def grid_of(experiment: Experiment, photos: Photos, model: Colorizer, run: Path) -> np.ndarray:
    path = evaluation(experiment, photos).write_grid(model, run, epoch=1)
    assert path
    return np.asarray(Image.open(path))


def test_the_grid_shows_the_same_pictures_in_every_run(tiny: Make, tmp_path: Path) -> None:
    photos, settings = Photos(10), ("data.size=96", "train.grid_pictures=3")
    red = grid_of(tiny(*settings), photos, OneColor(0.5, 0), tmp_path / "red")
    other = tiny(*settings, "train.seed=5", "train.batch_size=4", "model.lambda_l1=1")
    blue = grid_of(other, photos, OneColor(0, -0.5), tmp_path / "blue")
    column = np.arange(red.shape[1]) * 3 // red.shape[1]
    assert np.array_equal(red[:, column == 0], blue[:, column == 0])
    assert not np.array_equal(red[:, column == 1], blue[:, column == 1])
    assert np.array_equal(red[:, column == 2], blue[:, column == 2])


@pytest.mark.parametrize(("count", "wanted"), [(6, 6), (4, 6), (8, 3), (2, 2), (1, 6)])
def test_no_picture_is_in_the_grid_twice(
    count: int, wanted: int, tiny: Make, tmp_path: Path
) -> None:
    experiment = tiny(f"train.grid_pictures={wanted}", "data.size=96")
    grid = grid_of(experiment, Photos(count, side=96), OneColor(0, 0), tmp_path)
    truths = grid[:, 2 * grid.shape[1] // 3 + 10 : -10]
    starts = range(grid.shape[0] - 60, 0, -100)  # into each row, from below
    blocks = {truths[start : start + 40].tobytes() for start in starts}
    assert len(starts) == len(blocks) == min(count, wanted)


def test_a_grid_leaves_damaged_pictures_out(tiny: Make, tmp_path: Path) -> None:
    experiment = tiny("train.grid_pictures=4")
    whole = grid_of(experiment, Photos(4), OneColor(0, 0), tmp_path / "whole")
    partial = grid_of(experiment, Photos(4, damaged=(1,)), OneColor(0, 0), tmp_path / "partial")
    assert partial.shape[0] < whole.shape[0]
    nothing = evaluation(experiment, Photos(2, damaged=(0, 1)))
    assert nothing.write_grid(OneColor(0, 0), tmp_path, epoch=1) is None


def test_grids_are_written_every_few_epochs(tiny: Make, tmp_path: Path) -> None:
    scored = evaluation(tiny("train.grid_every=3"), Photos(2))
    written = [scored.write_grid(OneColor(0, 0), tmp_path, epoch) for epoch in range(1, 8)]
    assert [path is not None for path in written] == [True, False, False] * 2 + [True]
