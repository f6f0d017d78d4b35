"""Scores that need pretrained networks: FID and LPIPS, where their weights are in torch's cache."""

import pickle
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.image import FrechetInceptionDistance, LearnedPerceptualImagePatchSimilarity
from torchvision.models import AlexNet_Weights

FID_FILE = "weights-inception-2015-12-05-6726825d.pth"  # InceptionV3 as torch-fidelity names it
LPIPS_FILE = Path(AlexNet_Weights.DEFAULT.url).name
SMALLEST_SIDE = 32  # pixels; below, nothing is left of a picture behind AlexNet's pooling


class PerceptualScores(Metric):
    """Collects FID and LPIPS of 8-bit pictures over a set, exact under any number of ranks.

    Made by `perceptual_scores`. `compute` returns those that it was given, lower being better:

    * `fid`: Frechet distance between the InceptionV3 features of all predictions and of all truths,
      resized as the published Inception expects (Heusel et al. 2017). Absent for fewer than 2
      pictures. It depends on the number of pictures: compare only sets of the same size
    * `lpips`: distance of AlexNet's features of a prediction to its truth, averaged over pictures
      (Zhang et al. 2018)
    """

    pictures: Tensor
    lpips_sum: Tensor

    def __init__(
        self,
        fid: FrechetInceptionDistance | None,
        lpips: LearnedPerceptualImagePatchSimilarity | None,
        device: torch.device | str,
    ) -> None:
        super().__init__()
        self.fid, self.lpips = fid, lpips
        self.add_state("pictures", torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("lpips_sum", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")
        self.to(device)

    @property
    def update_called(self) -> bool:
        """True always: a rank that holds no picture takes part in `compute` like any other."""
        return True

    def update(self, rgb: Tensor, rgb_true: Tensor) -> None:
        """Add a batch: predicted and true pictures, both (B, 3, H, W) uint8.

        Raises TypeError for another dtype and ValueError for shapes that disagree or, with LPIPS,
        a side under 32 pixels.
        """
        if rgb.dtype != torch.uint8 or rgb_true.dtype != torch.uint8:
            raise TypeError(f"pictures must be uint8, not {rgb.dtype} and {rgb_true.dtype}")
        if rgb.dim() != 4 or rgb.shape[1] != 3 or rgb.shape != rgb_true.shape:
            raise ValueError(
                f"pictures must be (B, 3, H, W), not {tuple(rgb.shape)} and {tuple(rgb_true.shape)}"
            )
        if self.lpips is not None and min(rgb.shape[2:]) < SMALLEST_SIDE:
            raise ValueError(f"LPIPS needs sides of at least {SMALLEST_SIDE} pixels")
        if len(rgb) == 0:
            return
        with torch.autocast(self.device.type, enabled=False):
            rgb, rgb_true = rgb.to(self.device), rgb_true.to(self.device)
            if self.fid is not None:
                self.fid.update(rgb_true, real=True)
                self.fid.update(rgb, real=False)
            if self.lpips is not None:
                # Summed here: torchmetrics' own state is a list, which ranks without a picture
                # cannot join.
                self.lpips_sum += self.lpips(rgb / 255, rgb_true / 255).sum(dtype=torch.float64)
                self.lpips.reset()
        self.pictures += len(rgb)

    def compute(self) -> dict[str, float]:
        """Return the scores of all pictures of all ranks, in plain numbers.

        Raises ValueError where no picture was scored.
        """
        pictures = int(self.pictures)
        if pictures == 0:
            raise ValueError("no picture was scored: the set is empty")
        scores: dict[str, float] = {}
        if self.fid is not None and pictures > 1:
            scores["fid"] = float(self.fid.compute())
        if self.lpips is not None:
            scores["lpips"] = float(self.lpips_sum) / pictures
        return scores

    def reset(self) -> None:
        """Forget all pictures."""
        super().reset()
        if self.fid is not None:
            self.fid.reset()


def perceptual_scores(device: torch.device | str) -> tuple[PerceptualScores | None, str]:
    """Load what FID and LPIPS need from torch's cache, never from the network.

    Returns the scores, None where neither has its weights, and a sentence for the log that names
    what is left out and the file that would change that, "" where nothing is. Under
    `torch.distributed` all ranks have to call it: a score is taken where every rank has its file.
    Raises ValueError naming the file where one is there but does not hold these weights.
    """
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    fid_file, lpips_file = folder / FID_FILE, folder / LPIPS_FILE
    with_fid, with_lpips = (_on_every_rank(x.is_file(), device) for x in (fid_file, lpips_file))
    left_out = [
        f"{score} ({file.name})"
        for score, file, found in (("FID", fid_file, with_fid), ("LPIPS", lpips_file, with_lpips))
        if not found
    ]
    sentence = (
        f"Left out for want of weights in {folder}: {', '.join(left_out)}." if left_out else ""
    )
    if not with_fid and not with_lpips:
        return None, sentence
    fid = _load_fid(fid_file) if with_fid else None
    lpips = _load_lpips(lpips_file) if with_lpips else None
    return PerceptualScores(fid, lpips, device), sentence


def _load_fid(file: Path) -> FrechetInceptionDistance:
    _check_weights(file)
    try:
        # Without antialiasing, the published Inception's own resizing, which published FIDs used.
        fid = FrechetInceptionDistance(feature_extractor_weights_path=str(file), antialias=False)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"{file} does not hold the InceptionV3 weights of FID: {error}") from error
    fid.orig_dtype = torch.float64  # else set by its first update, which an empty rank never makes
    return fid


def _load_lpips(file: Path) -> LearnedPerceptualImagePatchSimilarity:
    _check_weights(file)
    try:
        return LearnedPerceptualImagePatchSimilarity("alex", reduction="none", normalize=True)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"{file} does not hold the AlexNet weights of LPIPS: {error}") from error


def _check_weights(file: Path) -> None:
    """Raise ValueError unless a file holds plain weights.

    The packages that own the networks unpickle without limits: nothing that could run code may
    reach them.
    """
    try:
        torch.load(file, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, OSError) as error:
        raise ValueError(f"{file} cannot be read as weights: {error}. Remove or replace it.") from (
            error
        )


def _on_every_rank(found: bool, device: torch.device | str) -> bool:
    if not (dist.is_available() and dist.is_initialized()):
        return found
    votes = torch.tensor(int(found), device=device)
    dist.all_reduce(votes, op=dist.ReduceOp.MIN)
    return bool(votes)
