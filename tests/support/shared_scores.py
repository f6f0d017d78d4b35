"""Scores of four pictures that two ranks share."""

import torch.distributed as dist
from torch import Tensor

from colorization.metrics import ColorizationScores


def score_shares(*parts: Tensor) -> list[dict[str, float]]:
    """Be one of two ranks: return the scores for each way to share four pictures."""
    results = []
    for first in (3, 4, 0):
        share = slice(0, first) if dist.get_rank() == 0 else slice(first, 4)
        scores = ColorizationScores("cpu")
        if share.start < share.stop:
            scores.update(*(part[share] for part in parts))
        results.append(scores.compute())
    return results
