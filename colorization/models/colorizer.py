"""What every model is to the trainer and to a user: players that take turns, and colorize()."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from colorization.distributed import gradient_sync


class Turn(NamedTuple):
    """One player's move in a training step: its parameters descend this loss."""

    player: str  # name of the submodule whose optimizer steps
    loss: Tensor  # scalar
    terms: dict[str, Tensor]  # unweighted parts of the loss, for the log


class Progress(NamedTuple):
    """Where in its stage a training step stands."""

    turns: str  # which of the model's turns the stage plays, e.g. "adversarial"
    step: int  # optimizer steps of this stage so far, from 0
    steps: int  # how many the whole stage has


class Colorizer(nn.Module, ABC):
    """A network, or several, that gives a lightness picture its colors.

    `players` name the submodules that have an optimizer each; `training_only` names parts, players
    among them, that colorizing does without. Sides of pictures fed to `colorize` must be multiples
    of `multiple`; with `fixed_size` they must be the training size. `stochastic` models give other
    colors with each sample; one that `encodes` has `latent_of`, which tells of a picture's colors
    the sample that they are. With `standardizes`, `standardize` is called with the statistics of
    the training set's colors before a run's first step. Models with `sees_colors` may be told of
    colors that parts of a picture have already: two more channels of `lab`, and
    `colored` of `colorize` and, where they encode, `color_from`.
    """

    players: tuple[str, ...]
    training_only: tuple[str, ...] = ()
    multiple: int = 1
    fixed_size: bool = False
    stochastic: bool = False
    encodes: bool = False
    standardizes: bool = False
    sees_colors: bool = False

    def learning_rate_ratio(self, player: str) -> float:
        """Return the player's learning rate as a multiple of `train.learning_rate`."""
        del player
        return 1.0

    def idle(self, turns: str) -> tuple[str, ...]:
        """Name the parts of players that get no gradient in these turns; they rest meanwhile.

        Under several ranks gradients of idle parameters would be waited for.
        """
        del turns
        return ()

    def standardize(self, mean: Tensor, deviation: Tensor) -> None:
        """Take in the mean and standard deviation (2,) of the training set's scaled ab."""
        raise NotImplementedError(f"{type(self).__name__} takes no statistics")

    @abstractmethod
    def turns(self, lab: Tensor, progress: Progress) -> Iterator[Turn]:
        """Yield the moves of one training step on scaled Lab pictures (B, 3, H, W).

        The trainer steps the player before it asks for the next turn, so that later turns see
        earlier moves.
        """

    @abstractmethod
    def colorize(
        self,
        lightness: Tensor,
        samples: int = 1,
        temperature: float | None = None,
        seed: int = 0,
    ) -> Tensor:
        """Give (B, 1, H, W) lightness in [-1, 1] its ab: (samples, B, 2, H, W), ab/110.

        `temperature` scales the noise of stochastic models: None is the model's own setting, 0
        gives the mean sample. Sample i of a seed is made of the same noise for every picture, so
        that it does not depend on the pictures around it, on the number of ranks or on the machine.
        A model without randomness returns the same picture `samples` times.
        """

    def latent_shape(self, height: int, width: int) -> tuple[int, ...]:
        """Return the shape of a sample's noise for pictures of these sides; empty: none is drawn.

        Where it depends on the sides, its last two numbers are proportional to them.
        """
        del height, width
        return ()

    def color_from(self, lightness: Tensor, latent: Tensor) -> Tensor:
        """Give (B, 1, H, W) lightness the ab (B, 2, H, W) of one sample's noise, scaled already.

        `latent` is (1, *latent_shape(H, W)), or (B, ...) with one for each picture where the model
        `encodes`. What `colorize` does with the noise that it draws.
        """
        raise NotImplementedError(f"{type(self).__name__} draws nothing")

    def latent_of(self, lab: Tensor) -> Tensor:
        """Return the latents (B, *latent_shape(H, W)) that make of scaled Lab pictures' lightness
        (B, 3, H, W) their ab again, as finely as the model makes ab."""
        raise NotImplementedError(f"{type(self).__name__} finds no latents")

    def measure(self, lab: Tensor) -> dict[str, Tensor]:
        """Return what else is to be known of scaled Lab pictures (B, 3, H, W): (B, ...) each.

        Averaged over the validation pictures and handed to `summarize`.
        """
        del lab
        return {}

    def summarize(self, means: dict[str, Tensor]) -> dict[str, float]:
        """Turn the means (...) of what `measure` returned into numbers for the log."""
        return {name: mean.item() for name, mean in means.items()}


def noise(samples: int, size: int, device: torch.device, seed: int = 0) -> Tensor:
    """Draw N(0, 1) for samples of a stochastic model: (samples, size) float32.

    The same in every call with a seed, and sample i does not depend on how many there are. Drawn on
    the CPU, whose generator gives the same numbers on every machine.
    """
    generator = torch.Generator().manual_seed(seed)
    return torch.stack([torch.randn(size, generator=generator) for _ in range(samples)]).to(device)


def weights_digest(model: Colorizer) -> str:
    """Return a hash of what a model colors with; a run and what is exported of it have the same."""
    digest = hashlib.sha256()
    unused = tuple(f"{part}." for part in model.training_only)
    for name, tensor in sorted(model.state_dict().items()):
        if not name.startswith(unused):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            content = tensor.detach().cpu().contiguous().view(-1).view(torch.uint8)
            digest.update(content.numpy())
    return digest.hexdigest()


@contextmanager
def read_only(network: nn.Module) -> Iterator[None]:
    """Let gradients pass through a network without reaching its parameters.

    The opponent in another player's turn: its parameters need no gradient then, and under several
    ranks its reducer must not wait for any (the flag is read at forward).
    """
    trainable = [p for p in network.parameters() if p.requires_grad]
    for parameter in trainable:
        parameter.requires_grad_(False)
    try:
        with gradient_sync(network, enabled=False):
            yield
    finally:
        for parameter in trainable:
            parameter.requires_grad_(True)
