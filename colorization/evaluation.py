"""Scores and picture grids of a model on a fixed set of pictures."""

import logging
from pathlib import Path

import torch
from torch import Tensor

from colorization.color import rgb_to_lab
from colorization.data import PictureSet, ScoringLoader
from colorization.data.transforms import scoring_crop
from colorization.distributed import Ranks
from colorization.experiment import Experiment
from colorization.grid import write_grid
from colorization.loss_log import Diverged
from colorization.metrics import ColorizationScores, against_gray
from colorization.models.colorizer import Colorizer
from colorization.pictures import UnreadablePicture

log = logging.getLogger(__name__)


class Evaluation:
    """A fixed set of pictures, shared among the ranks, that models are scored on.

    Always in float32, whatever training computes in, so that a score does not depend on the
    machine it was measured on.
    """

    def __init__(self, experiment: Experiment, pictures: PictureSet, ranks: Ranks) -> None:
        self._ranks = ranks
        batch = max(1, experiment.train.batch_size // ranks.size)
        self._loader = ScoringLoader(
            pictures,
            experiment.data,
            batch_size=batch,
            rank=ranks.rank,
            world_size=ranks.size,
        )
        self._grid_every = experiment.train.grid_every
        self._grid = self._grid_pictures(experiment, pictures) if ranks.first else None

    @staticmethod
    def _grid_pictures(experiment: Experiment, pictures: PictureSet) -> Tensor:
        """Take pictures evenly from the set, as far as they can be read."""
        count = min(experiment.train.grid_pictures, len(pictures))
        crops = []
        for i in range(count):
            try:
                rgb = pictures.picture(i * len(pictures) // count)
            except UnreadablePicture:
                continue
            crops.append(torch.from_numpy(scoring_crop(rgb, experiment.data.size)))
        return rgb_to_lab(torch.stack(crops).permute(0, 3, 1, 2))

    def leave_gray(self) -> dict[str, float]:
        """Score the baseline that leaves every picture gray."""
        scores = ColorizationScores(self._ranks.device)
        unreadable: list[str] = []
        for batch in self._loader:
            lab = rgb_to_lab(batch.rgb.to(self._ranks.device))
            scores.update(lab[:, :1], torch.zeros_like(lab[:, 1:]), lab[:, 1:])
            unreadable += batch.unreadable
        if unreadable:
            log.warning("left out of the scores, unreadable: %s", ", ".join(unreadable))
        return scores.compute()

    @torch.no_grad()
    def scores(self, model: Colorizer, gray: dict[str, float]) -> dict[str, float]:
        """Score a model; `against_gray` compares it with leave-gray's scores.

        The same on every rank. Raises Diverged for a model that answers with no number.
        """
        model.eval()
        scores = ColorizationScores(self._ranks.device)
        finite = torch.ones((), device=self._ranks.device)
        for batch in self._loader:
            if not len(batch.rgb):
                continue
            lab = rgb_to_lab(batch.rgb.to(self._ranks.device))
            ab = model.colorize(lab[:, :1])[0]
            finite *= ab.isfinite().all()
            scores.update(lab[:, :1], ab.nan_to_num(), lab[:, 1:])
        if self._ranks.size > 1:
            torch.distributed.all_reduce(finite, torch.distributed.ReduceOp.MIN)
        if not finite:
            raise Diverged("the model answers with colors that are no numbers: its weights are NaN")
        result = scores.compute()
        return {"against_gray": against_gray(result, gray), **result}

    @torch.no_grad()
    def write_grid(self, model: Colorizer, run: Path, epoch: int) -> Path | None:
        """Write gray, prediction and truth of some pictures, the same in every run; None between.

        Only the first rank does.
        """
        if self._grid is None or (epoch - 1) % self._grid_every:
            return None
        model.eval()
        lab = self._grid.to(self._ranks.device)
        path = run / "grids" / f"epoch-{epoch:05d}.png"
        write_grid(path, lab[:, :1].cpu(), model.colorize(lab[:, :1]).cpu(), lab[:, 1:].cpu())
        return path
