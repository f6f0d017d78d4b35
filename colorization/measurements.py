"""What a model measures of pictures itself, averaged over a set and all ranks."""

import torch
from torch import Tensor

from colorization.distributed import Ranks, mean_over_ranks
from colorization.models.colorizer import Colorizer


class Measurements:
    """Averages `Colorizer.measure` over pictures and has the model summarize the means."""

    @torch.no_grad()
    def __init__(self, model: Colorizer, size: int, ranks: Ranks) -> None:
        self._model, self._ranks = model, ranks
        self._count = torch.zeros((), dtype=torch.float64, device=ranks.device)
        # A rank without pictures has to know what the others add up.
        example = model.measure(torch.zeros(1, 3, size, size, device=ranks.device))
        self._sums = {name: torch.zeros_like(x[0]).double() for name, x in example.items()}

    @torch.no_grad()
    def update(self, lab: Tensor) -> None:
        """Add a batch of scaled Lab pictures (B, 3, H, W)."""
        self._count += len(lab)
        for name, values in self._model.measure(lab).items():
            self._sums[name] += values.double().sum(0)

    def compute(self) -> dict[str, float]:
        """Return the numbers; every rank has to call it, and gets the same."""
        count = mean_over_ranks(self._count, self._ranks)
        means = {n: mean_over_ranks(total, self._ranks) / count for n, total in self._sums.items()}
        return self._model.summarize(means)
