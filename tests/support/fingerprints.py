"""Runs of which fingerprints alone are handed about: networks of recipes are large."""

from hashlib import blake2b
from pathlib import Path

import torch
from torch import Tensor

from colorization.experiment import Experiment
from rank_pool import fit

Fingerprint = dict[str, str]  # of each tensor of a model


def fit_for_fingerprints(
    experiment: Experiment, run: Path, stop_after: int | None = None
) -> list[Fingerprint]:
    """Train as `rank_pool.fit` does; return what the weights of this rank were after each epoch."""
    fitted = fit(experiment, run, stop_after)
    assert fitted.diverged is None, fitted.diverged
    return [
        {name: _digest(tensor) for name, tensor in state["model"].items()}
        for state in fitted.states
    ]


def _digest(tensor: Tensor) -> str:
    return blake2b(tensor.flatten().contiguous().view(torch.uint8).numpy().data).hexdigest()
