"""A rank's batch in parts, one after the other, whose gradients add up to those of the whole."""

from collections.abc import Container, Iterator, Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import parametrize

from colorization.config import ConfigError
from colorization.distributed import Ranks
from colorization.models.augmentation import AdaptiveAugmenter
from colorization.models.colorizer import Colorizer, Turn


def micro_batch_refusal(model: Colorizer, resting: Sequence[str]) -> str | None:
    """Say why a model would learn something else from parts of a batch, if so.

    `resting` are dotted names of the parts that are not trained: theirs are fixed statistics.
    """
    starts = tuple(f"{part}." for part in resting)
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm) and name not in resting and not name.startswith(starts):
            return (
                f"{name} ({type(module).__name__}) computes statistics of the batch, which those "
                "of its parts are not"
            )
        if isinstance(module, AdaptiveAugmenter):
            return f"{name} adapts to the answers to a whole batch"
    return None


def check_micro_batches(parts: int, share: int) -> None:
    """Raise ConfigError where a rank's share of the batch is not `parts` equal parts."""
    if share % parts == 0:
        return
    fitting = [count for count in range(1, share + 1) if share % count == 0]
    below = max(count for count in fitting if count < parts)
    above = [count for count in fitting if count > parts][:1]
    raise ConfigError(
        f"train.micro_batches: found {parts}; the {share} pictures that a rank has of "
        f"train.batch_size are parted equally: take {' or '.join(map(str, [below, *above]))}"
    )


def add_gradients(
    model: nn.Module, parts: Sequence[Iterator[Turn]], moving: Container[str]
) -> Turn | None:
    """Play the next turn of every part of a batch, and add up the gradients of their mean loss.

    A part's backward pass comes before the next part's forward pass, so that what it keeps is
    freed. The player's gradients are dropped first; players that are not `moving` get none. Returns
    the turn with the parts' means, without a graph; None where no turn is left. Raises RuntimeError
    where the parts' players differ.
    """
    turns: list[Turn] = []
    players: list[str] = []
    vectors = _spectral_vectors(model) if len(parts) > 1 else []
    before = [vector.clone() for vector in vectors]
    for part in parts:
        for vector, start in zip(vectors, before, strict=True):
            vector.copy_(start)
        turn = next(part, None)
        player = turn.player if turn else "no turn"
        players.append(player)
        if player != players[0]:
            raise RuntimeError(
                "parts of a batch must play the same turns; after a turn of "
                f"{players[0]} in the first one found {player}"
            )
        if turn is None:
            continue
        if turn.player in moving:
            if not turns:
                model.get_submodule(turn.player).zero_grad(set_to_none=True)
            (turn.loss / len(parts)).backward()
        terms = {name: term.detach() for name, term in turn.terms.items()}
        turns.append(Turn(turn.player, turn.loss.detach(), terms))
    if not turns:
        return None
    terms = {name: _mean([turn.terms[name] for turn in turns]) for name in turns[0].terms}
    return Turn(turns[0].player, _mean([turn.loss for turn in turns]), terms)


def _mean(values: Sequence[Tensor]) -> Tensor:
    return values[0] if len(values) == 1 else torch.stack([*values]).float().mean()


def _spectral_vectors(model: nn.Module) -> list[Tensor]:
    """Return what parametrizations keep: spectral norm turns its vectors at each forward pass.

    Each part begins with the same ones, so that they turn as often as for a whole batch.
    """
    return [
        buffer
        for module in model.modules()
        if isinstance(module, parametrize.ParametrizationList)
        for buffer in module.buffers()
    ]


def average_gradients(network: nn.Module, ranks: Ranks) -> None:
    """Average a network's gradients over the ranks once all parts have added theirs.

    A replicated network's reducer starts at the first backward pass after a forward pass that it
    saw: of turns that share a forward pass with earlier ones it would average the first part alone.
    """
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    if ranks.size == 1 or not gradients:
        return
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    flat /= ranks.size
    sizes = [gradient.numel() for gradient in gradients]
    for gradient, averaged in zip(gradients, flat.split(sizes), strict=True):
        gradient.copy_(averaged.view_as(gradient))
