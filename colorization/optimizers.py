"""One optimizer a player, whose state finds its parameters by name."""

from typing import Any

import torch
from torch import nn
from torch.optim import AdamW

from colorization.experiment import TrainConfig
from colorization.models.colorizer import Colorizer


def build_optimizers(model: Colorizer, train: TrainConfig) -> dict[str, AdamW]:
    """Build Adam (decoupled weight decay, fused) for what is trainable of each player.

    A player that rests whole has none.
    """
    optimizers: dict[str, AdamW] = {}
    for player in model.players:
        trainable = [
            (name, parameter)
            for name, parameter in model.get_submodule(player).named_parameters()
            if parameter.requires_grad
        ]
        if trainable:
            optimizers[player] = AdamW(
                trainable,
                lr=train.learning_rate * model.learning_rate_ratio(player),
                betas=train.betas,
                weight_decay=train.weight_decay,
                fused=True,
            )
    return optimizers


def adopt(optimizer: AdamW, state: dict[str, Any]) -> None:
    """Take over the moments of another optimizer's `state_dict` for parameters of the same name.

    Across a stage's start parts may have been frozen or thawed; what is new starts from nothing.
    """
    (old_group,) = state["param_groups"]
    old_index = {name: i for i, name in enumerate(old_group["param_names"])}
    mine = optimizer.state_dict()
    (group,) = mine["param_groups"]
    moments = {
        i: state["state"][old_index[name]]
        for i, name in enumerate(group["param_names"])
        if old_index.get(name) in state["state"]
    }
    optimizer.load_state_dict({"state": moments, "param_groups": [group]})


def freeze(model: nn.Module, parts: tuple[str, ...]) -> list[nn.Module]:
    """Take the gradient from parts of a model; return them, for they are to stay in eval mode.

    `parts` are dotted names of modules or parameters.
    """
    frozen: list[nn.Module] = []
    modules = dict(model.named_modules())
    parameters = dict(model.named_parameters())
    for part in parts:
        if part in modules:
            modules[part].requires_grad_(False)
            frozen.append(modules[part])
        else:
            parameters[part].requires_grad_(False)
    return frozen


def clip_gradients(optimizer: AdamW, largest: float) -> torch.Tensor:
    """Scale a player's gradients to a common norm of at most `largest`; return their norm."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    return nn.utils.clip_grad_norm_(parameters, largest)
