"""Models so small that it is known what they do, and what every rank lets them do."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar
from unittest import mock

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import rank_pool
from colorization.color_statistics import color_statistics
from colorization.data import open_data
from colorization.distributed import current_ranks
from colorization.evaluation import Evaluation
from colorization.experiment import Experiment
from colorization.models.colorizer import Colorizer, Progress, Turn, noise
from colorization.models.gan import GANConfig
from rank_pool import Fitted


class Tones(Colorizer):
    """One tone a sample, more of it where it is light: (mean + deviation * noise) * light.

    `light` is L / 100. Measures how light pictures are.
    """

    players = ()
    stochastic = True
    mean = torch.tensor([0.1, -0.05])
    deviation = torch.tensor([0.1, 0.2])

    def turns(self, lab: Tensor, progress: Progress) -> Iterator[Turn]:
        del lab, progress
        yield from ()

    def tones(self, samples: int, temperature: float = 1.0, seed: int = 0) -> Tensor:
        """Return the colors of white, (samples, 2)."""
        drawn = noise(samples, 2, torch.device("cpu"), seed)
        return self.mean + temperature * self.deviation * drawn

    def colorize(
        self,
        lightness: Tensor,
        samples: int = 1,
        temperature: float | None = None,
        seed: int = 0,
    ) -> Tensor:
        tones = self.tones(samples, 1.0 if temperature is None else temperature, seed)
        return tones.view(samples, 1, 2, 1, 1) * (lightness + 1) / 2

    def measure(self, lab: Tensor) -> dict[str, Tensor]:
        light = (lab[:, 0].flatten(1).mean(1) + 1) / 2
        return {"light": light, "moments": torch.stack([light, light.square()], 1)}

    def summarize(self, means: dict[str, Tensor]) -> dict[str, float]:
        mean, square = means["moments"].tolist()
        return {"light": means["light"].item(), "light_variance": square - mean**2}


class Parts(nn.Module):
    """A network of parts that are not all in use, and of a constant kept as FrEIA keeps its."""

    def __init__(self) -> None:
        super().__init__()
        self.main = nn.Conv2d(1, 2, 3, padding=1)
        self.extra = nn.Sequential(nn.BatchNorm2d(1), nn.Conv2d(1, 2, 1))
        self.teach = nn.Conv2d(2, 2, 1)
        self.teacher = nn.Conv2d(2, 2, 1)
        self.order = nn.Parameter(torch.tensor([0, 1]), requires_grad=False)

    def forward(self, lightness: Tensor, extra: bool = True, teach: bool = False) -> Tensor:
        ab = self.main(lightness)
        if extra:
            ab = ab + self.extra(lightness)
        ab = self.teacher(ab[:, self.order])
        return self.teach(ab) if teach else ab


class Partial(Colorizer):
    """Its `extra` part rests in "l1", its `teach` part is needed in training alone."""

    players = ("network",)
    training_only = ("network.teach",)
    standardizes = True
    mean: Tensor
    deviation: Tensor
    built: ClassVar[list["Partial"]] = []

    def __init__(self) -> None:
        super().__init__()
        self.network = Parts()
        self.register_buffer("mean", torch.zeros(2))
        self.register_buffer("deviation", torch.ones(2))
        self.seen: list[Tensor] = []  # pictures trained on
        self.modes: list[dict[str, bool]] = []  # whether parts were in training mode then
        self.standardized = 0
        Partial.built.append(self)

    def idle(self, turns: str) -> tuple[str, ...]:
        return ("network.extra",) if turns == "l1" else ()

    def standardize(self, mean: Tensor, deviation: Tensor) -> None:
        self.mean.copy_(mean)
        self.deviation.copy_(deviation)
        self.standardized += 1

    def turns(self, lab: Tensor, progress: Progress) -> Iterator[Turn]:
        self.seen.append(lab)
        self.modes.append({name: part.training for name, part in self.network.named_children()})
        ab = self.network(lab[:, :1], extra=progress.turns != "l1", teach=True)
        l1 = F.l1_loss(ab, lab[:, 1:])
        yield Turn("network", l1, {"l1": l1})

    def colorize(
        self,
        lightness: Tensor,
        samples: int = 1,
        temperature: float | None = None,
        seed: int = 0,
    ) -> Tensor:
        del temperature, seed
        ab = self.network(lightness)
        return ab.expand(samples, *ab.shape)

    def measure(self, lab: Tensor) -> dict[str, Tensor]:
        error = (self.network(lab[:, :1], teach=True) - lab[:, 1:]).abs()
        return {"taught_mae": error.flatten(1).mean(1)}


@contextmanager
def in_place_of_gan(model: type[Colorizer]) -> Iterator[None]:
    """Let experiments of the GAN family, whose turns are "l1" and "adversarial", build a model."""
    with mock.patch.object(GANConfig, "build", side_effect=lambda size: model()):
        yield


def fit_partial(experiment: Experiment, run: Path) -> Fitted:
    """Train `Partial` in place of the experiment's GAN."""
    with in_place_of_gan(Partial):
        return rank_pool.fit(experiment, run)


def score_tones(experiment: Experiment) -> dict[str, float]:
    """Score `Tones` on the experiment's validation pictures."""
    pictures = open_data(experiment.data).validation
    evaluation = Evaluation(experiment, pictures, current_ranks("cpu"))
    return evaluation.scores(Tones(), evaluation.leave_gray())


def training_statistics(experiment: Experiment) -> tuple[Tensor, Tensor]:
    """Return mean and deviation of the colors of the experiment's training pictures."""
    pictures = open_data(experiment.data).train
    return color_statistics(pictures, experiment, current_ranks("cpu"))
