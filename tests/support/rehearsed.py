"""What every rank does in a rehearsal."""

from unittest import mock

from torch import nn

from colorization import stage
from colorization.distributed import Ranks, current_ranks, replicate
from colorization.experiment import Experiment
from colorization.rehearsal import gradient_difference


def gradients_differ_by(experiment: Experiment, unsynced: str | None = None) -> float:
    """Compare the gradients of this rank's group; one player's may be left without averaging."""

    def forgetful(network: nn.Module, ranks: Ranks) -> nn.Module:
        return network if type(network).__name__ == unsynced else replicate(network, ranks)

    with mock.patch.object(stage, "replicate", forgetful):
        return gradient_difference(experiment, current_ranks("cpu"))
