"""Outlines have all of a network but its numbers."""

import torch
from torch import nn

from colorization.models.layers import with_spectral_norm
from colorization.outlines import without_numbers


def network() -> nn.Module:
    first = nn.Conv2d(3, 8, 3)
    nn.init.kaiming_normal_(first.weight)
    return nn.Sequential(first, nn.BatchNorm2d(8), with_spectral_norm(nn.Conv2d(8, 4, 3)))


def test_an_outline_has_the_names_shapes_and_parts_of_the_network() -> None:
    real = network()
    with without_numbers():
        outline = network()
    assert {n: t.shape for n, t in outline.state_dict().items()} == {
        n: t.shape for n, t in real.state_dict().items()
    }
    assert [n for n, _ in outline.named_modules()] == [n for n, _ in real.named_modules()]
    assert all(tensor.is_meta for tensor in outline.state_dict().values())


def test_numbers_are_drawn_again_afterwards() -> None:
    with without_numbers():
        network()
    assert nn.Linear(4, 4).weight.std() > 0
    assert not torch.mv(torch.ones(2, 3), torch.ones(3)).is_meta
