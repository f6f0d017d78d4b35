"""Scores and picture grids of a model on a fixed set of pictures."""

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from colorization.color import bytes_to_ab, render, rgb_to_lab
from colorization.config import ConfigError
from colorization.data import PictureSet, ScoringLoader
from colorization.data.picture_sets import some_names
from colorization.data.spread import pictures_from_all_over
from colorization.data.transforms import scoring_crop
from colorization.distributed import Ranks, mean_over_ranks
from colorization.experiment import Experiment
from colorization.grid import write_grid
from colorization.loss_log import Diverged
from colorization.measurements import Measurements
from colorization.metrics import ColorizationScores, against_gray
from colorization.models.colorizer import Colorizer
from colorization.sample_scores import Colorize, SampleScores

if TYPE_CHECKING:
    from colorization.perceptual import PerceptualScores

_GRID_SAMPLES = 4

log = logging.getLogger(__name__)


def grid_path(run: Path, epoch: int) -> Path:
    """Return where the picture grid of an epoch of a run is written."""
    return run / "grids" / f"epoch-{epoch:05d}.png"


class Evaluation:
    """A fixed set of pictures, shared among the ranks, that models are scored on.

    Always in float32, whatever training computes in, so that a score does not depend on the
    machine it was measured on.
    """

    def __init__(
        self,
        experiment: Experiment,
        pictures: PictureSet,
        ranks: Ranks,
        *,
        perceptual: bool = False,
    ) -> None:
        """Prepare to score; `perceptual` adds FID and LPIPS where their weights are cached.

        Both need pictures of perceptual.SMALLEST_SIDE pixels and are left out below.
        """
        self._ranks = ranks
        self._perceptual = (
            self._perceptual_scores(experiment.data.size, ranks) if perceptual else None
        )
        batch = max(1, experiment.train.batch_size // ranks.size)
        self._loader = ScoringLoader(
            pictures,
            experiment.data,
            batch_size=batch,
            rank=ranks.rank,
            world_size=ranks.size,
        )
        self._pictures, self._max_unreadable = len(pictures), experiment.data.max_unreadable
        self._size = experiment.data.size
        self._grid_every = experiment.train.grid_every
        self._grid = self._grid_pictures(experiment, pictures) if ranks.first else None

    @staticmethod
    def _perceptual_scores(size: int, ranks: Ranks) -> "PerceptualScores | None":
        # Slow to import: torchmetrics and torchvision.
        from colorization.perceptual import SMALLEST_SIDE, perceptual_scores

        if size < SMALLEST_SIDE:
            return None
        scores, left_out = perceptual_scores(ranks.device)
        if left_out and ranks.first:
            log.warning(left_out)
        return scores

    @staticmethod
    def _grid_pictures(experiment: Experiment, pictures: PictureSet) -> Tensor | None:
        """Take a few pictures from all over the set, as far as they can be read."""
        size = experiment.data.size
        shown = list(pictures_from_all_over(pictures, experiment.train.grid_pictures))
        if not shown:
            return None
        rgb = np.stack([scoring_crop(one.rgb, size) for one in shown])
        lab = rgb_to_lab(torch.from_numpy(rgb).permute(0, 3, 1, 2))
        colored = [scoring_crop(one.colored, size) for one in shown if one.colored is not None]
        if not colored:
            return lab
        planes = torch.from_numpy(np.stack(colored)).permute(0, 3, 1, 2)
        return torch.cat([lab, bytes_to_ab(planes)], dim=1)

    def leave_gray(self) -> dict[str, float]:
        """Score the baseline that leaves every picture gray.

        Names in the log the pictures that cannot be decoded. Raises ConfigError on all ranks where
        they are more than the share `data.max_unreadable`.
        """
        scores, unreadable = self._score(lambda lab: torch.zeros_like(lab[:, 1:3]))
        if unreadable:
            log.warning("left out of the scores, unreadable: %s", ", ".join(unreadable))
        return scores

    def scores(self, model: Colorizer, gray: dict[str, float]) -> dict[str, float]:
        """Score a model; `against_gray` compares it with leave-gray's scores.

        A stochastic model by its first sample; scores of several samples, and what the model
        measures itself, stand beside it.
        The same on every rank. Raises Diverged for a model that answers with no number.
        """
        model.eval()
        samples = SampleScores(self._ranks) if model.stochastic else None
        measurements = Measurements(model, self._size, self._ranks)

        def color(lab: Tensor) -> Tensor:
            measurements.update(lab if model.sees_colors else lab[:, :3])
            lightness, ab_true = lab[:, :1], lab[:, 1:3]
            if samples:
                return samples.update(_colorize(model, lab), lightness, ab_true)
            return model.colorize(lightness)[0]

        try:
            scores, _ = self._score(color)
            beside = samples.compute() if samples else {}
        except FloatingPointError as error:  # on all ranks alike
            raise Diverged(f"the model's colors are no numbers: {error}") from error
        return {
            "against_gray": against_gray(scores, gray),
            **scores,
            **beside,
            **measurements.compute(),
        }

    @torch.no_grad()
    def _score(self, color: Callable[[Tensor], Tensor]) -> tuple[dict[str, float], list[str]]:
        """Return the scores, and the names of this rank's pictures that cannot be decoded.

        `color` gets scaled Lab (B, 3, H, W), and as two channels more what parts of the pictures
        are colored already, where the set says. Raises ConfigError where they are too many.
        """
        unreadable: list[str] = []
        scores = ColorizationScores(self._ranks.device)
        if self._perceptual:
            self._perceptual.reset()
        for batch in self._loader:
            unreadable += batch.unreadable
            if not len(batch.rgb):
                continue
            lab = rgb_to_lab(batch.rgb.to(self._ranks.device))
            lightness, ab_true = lab[:, :1], lab[:, 1:]
            if batch.colored is not None:
                lab = torch.cat([lab, bytes_to_ab(batch.colored.to(self._ranks.device))], dim=1)
            ab = color(lab)
            scores.update(lightness, ab, ab_true)
            if self._perceptual:
                self._perceptual.update(render(lightness, ab), render(lightness, ab_true))
        self._refuse_damage(unreadable)
        perceptual = self._perceptual.compute() if self._perceptual else {}
        return scores.compute() | perceptual, unreadable

    def _refuse_damage(self, unreadable: list[str]) -> None:
        share = torch.tensor(float(len(unreadable)), device=self._ranks.device)
        damaged = round(mean_over_ranks(share, self._ranks).item() * self._ranks.size)
        if damaged > self._max_unreadable * self._pictures or damaged == self._pictures:
            raise ConfigError(
                f"data.max_unreadable: {damaged} of {self._pictures} pictures to score on are "
                f"damaged, {self._max_unreadable:g} of them may be: {some_names(unreadable)}"
            )

    @torch.no_grad()
    def write_grid(self, model: Colorizer, run: Path, epoch: int) -> Path | None:
        """Write gray, prediction and truth of some pictures, the same in every run; None between.

        A stochastic model shows several samples of each.
        Only the first rank does.
        """
        if self._grid is None or (epoch - 1) % self._grid_every:
            return None
        model.eval()
        lab = self._grid.to(self._ranks.device)
        path = grid_path(run, epoch)
        ab = _colorize(model, lab)(lab[:, :1], _GRID_SAMPLES if model.stochastic else 1)
        write_grid(path, lab[:, :1].cpu(), ab.cpu(), lab[:, 1:3].cpu())
        return path


def _colorize(model: Colorizer, lab: Tensor) -> Colorize:
    """Return the model's way to color, which knows what is colored already of these pictures."""
    if model.sees_colors and lab.shape[1] > 3:
        colorize: Colorize = model.colorize
        return partial(colorize, colored=lab[:, 3:])
    return model.colorize
