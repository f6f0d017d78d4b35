"""Activation checkpointing (Chen et al. 2016): networks compute twice what they need not keep."""

import math
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from colorization.config import ConfigError, dump, flatten, override, parse
from colorization.experiment import Experiment, count_players
from colorization.models.colorizer import Colorizer
from colorization.stage_data import has_length


def checkpoint_activations(model: Colorizer) -> None:
    """Let the blocks of the networks that colorize keep no more than their inputs, in place.

    In the backward pass a block computes the rest a second time, by the same random numbers and
    from the same buffers, and what that changes in its buffers is thrown away: weights, running
    statistics and spectral norms become what they become without it, under the same names. Without
    gradients a block is what it was. Players that only training needs are left as they are: others'
    turns find their parameters fixed, which they no longer are when the backward pass comes.
    """
    for player in model.players:
        if player not in model.training_only:
            for block in _blocks(model.get_submodule(player)):
                _checkpoint(block)


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    """Yield the smallest parts of a network that are made of several layers.

    A part with more layers than smaller parts, as a residual block with its shortcut, is one block;
    one with more parts than layers is a frame, whose forward may even never be called.
    """
    for child in module.children():
        inside = [part for name, part in child.named_children() if name != "parametrizations"]
        frames = isinstance(child, (nn.ModuleList, nn.ModuleDict))
        layers = [part for part in inside if _is_layer(part)]
        trained = [part for part in layers if any(True for _ in part.parameters())]
        few = len(inside) - len(layers) < len(trained)
        if not _is_layer(child) and not frames and (few or len(layers) == len(inside)):
            yield child
        else:
            yield from _blocks(child)


def _is_layer(module: nn.Module) -> bool:
    # Attention of torch itself calls none of its parts.
    return isinstance(module, nn.MultiheadAttention) or all(
        name == "parametrizations" for name, _ in module.named_children()
    )


def _checkpoint(block: nn.Module) -> None:
    for module in block.modules():
        if getattr(module, "inplace", False):
            cast(Any, module).inplace = False  # it might change the block's input, which must stay
    plain = block.forward

    def forward(*arguments: Any, **options: Any) -> Any:
        if not torch.is_grad_enabled():
            return plain(*arguments, **options)
        return checkpoint(
            plain,
            *arguments,
            use_reentrant=False,
            context_fn=lambda: _contexts(block),
            **options,
        )

    block.forward = forward


Place = tuple[nn.Module, str]


def _contexts(
    block: nn.Module,
) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Return what a block's forward runs in, and what its recomputation does."""
    before = {
        (module, name): buffer.clone()
        for module in block.modules()
        if module.training
        for name, buffer in module.named_buffers(recurse=False)
    }
    return nullcontext(), _buffers_of(before)


@contextmanager
def _buffers_of(earlier: Mapping[Place, Tensor]) -> Iterator[None]:
    """Let modules have buffers of an earlier moment for a while."""
    now = {(module, name): getattr(module, name) for module, name in earlier}
    for (module, name), buffer in earlier.items():
        setattr(module, name, buffer.clone())
    try:
        yield
    finally:
        for (module, name), buffer in now.items():
            setattr(module, name, buffer)


PARTS = 4  # of a batch, about: working memory and what is kept fall to a quarter


def with_less_memory(experiment: Experiment, ranks: int) -> Experiment:
    """Return an experiment that trains the same in less memory and more time.

    With activation checkpointing and, where the model and the batches allow it, so many
    micro-batches that `ranks` compute a quarter of their share at a time, or less. It holds in all
    stages, whatever they change for themselves; only one with still more micro-batches keeps them.
    """
    saving = {"train.compile": False, "train.activation_checkpointing": True}
    stages = [name for name, stage in experiment.train.stages.items() if has_length(stage)]
    share = math.gcd(*(experiment.at(name).train.batch_size // ranks for name in stages))
    parts = next((count for count in range(PARTS, share) if share % count == 0), share)
    parts = max(parts, experiment.train.micro_batches)
    parted = _everywhere(experiment, {**saving, "train.micro_batches": parts})
    try:
        count_players(parted)
    except ConfigError:  # the model needs its batches whole
        return _everywhere(experiment, saving)
    return parted


def _everywhere(experiment: Experiment, saving: Mapping[str, Any]) -> Experiment:
    """Make changes to an experiment that its stages do not undo."""
    data = override(dump(experiment), saving)
    for stage in data["train"]["stages"].values():
        stage["change"] = {
            key: value
            for key, value in flatten(stage["change"]).items()
            if key not in saving or (key == "train.micro_batches" and value > saving[key])
        }
    return parse(Experiment, data)


def describe_saving(experiment: Experiment) -> str:
    """Say how an experiment saves memory; empty where it does not."""
    train = experiment.train
    ways = ["activation checkpointing"] if train.activation_checkpointing else []
    if train.micro_batches > 1:
        ways.append(f"{train.micro_batches} micro-batches")
    return ", ".join(ways)
