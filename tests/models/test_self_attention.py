import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from colorization.models.layers import SelfAttention, with_spectral_norm


def attention(channels: int, *, spectral: bool = False, gamma: float = 0.5) -> SelfAttention:
    torch.manual_seed(0)
    layer = SelfAttention(channels, spectral)
    nn.init.constant_(layer.gamma, gamma)
    return layer


def by_hand(layer: SelfAttention, features: Tensor) -> Tensor:
    """SAGAN's equations 1 to 3, pixel by pixel."""
    batch, _, height, width = features.shape
    queries = layer.query(features).flatten(2)
    pool = nn.MaxPool2d(2, ceil_mode=True)
    keys, values = pool(layer.key(features)).flatten(2), pool(layer.value(features)).flatten(2)
    shares = torch.einsum("bcn,bcm->bnm", queries, keys).softmax(-1)
    seen = torch.einsum("bnm,bcm->bcn", shares, values).reshape(batch, -1, height, width)
    return features + layer.gamma * layer.project(seen)


@pytest.mark.parametrize("spectral", [False, True])
@pytest.mark.parametrize("sides", [(8, 8), (7, 10), (1, 3)])
def test_self_attention_computes_the_published_equations(
    spectral: bool, sides: tuple[int, int]
) -> None:
    layer = attention(32, spectral=spectral).eval()
    features = torch.randn(2, 32, *sides)
    expected = by_hand(layer, features)
    assert (expected - features).abs().max() > 0.01
    torch.testing.assert_close(layer(features), expected, rtol=1e-4, atol=1e-5)


def test_self_attention_starts_by_changing_nothing() -> None:
    features = torch.randn(1, 16, 6, 6)
    assert torch.equal(SelfAttention(16)(features), features)


def test_queries_and_keys_are_an_eighth_as_wide_and_values_half() -> None:
    layer = SelfAttention(64)
    widths = [c.out_channels for c in (layer.query, layer.key, layer.value, layer.project)]
    assert widths == [8, 8, 32, 64]
    # 64 * (8 + 8 + 32) + 32 * 64 weights without biases, and gamma
    assert sum(parameter.numel() for parameter in layer.parameters()) == 5121


@pytest.mark.parametrize("channels", [1, 4, 24])
@pytest.mark.parametrize("spectral", [False, True])
def test_every_parameter_of_self_attention_is_trained(channels: int, spectral: bool) -> None:
    layer = attention(channels, spectral=spectral)
    features = torch.randn(2, channels, 6, 6)
    layer(features).pow(3).mean().backward()
    for name, parameter in layer.named_parameters():
        assert parameter.grad is not None, name
        if channels > 1:  # spectral norm makes one by one weights 1 or -1
            assert parameter.grad.abs().max() > 0, name


def test_attention_is_computed_without_holding_all_products() -> None:
    features = torch.randn(1, 16, 8, 8)
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):  # raises where it cannot be used
        found = attention(16)(features)
    torch.testing.assert_close(found, by_hand(attention(16), features), rtol=1e-4, atol=1e-5)


def test_self_attention_has_a_second_derivative_where_the_kernel_has_one() -> None:
    layer = attention(8).double()
    features = torch.randn(1, 8, 3, 4, dtype=torch.float64, requires_grad=True)
    with sdpa_kernel(SDPBackend.MATH):
        assert torch.autograd.gradgradcheck(layer, features)


def test_spectral_norm_makes_the_largest_singular_value_one() -> None:
    torch.manual_seed(0)
    convolution = with_spectral_norm(nn.Conv2d(6, 8, 3))
    for _ in range(20):
        convolution(torch.randn(1, 6, 3, 3))  # each takes a power iteration
    largest = torch.linalg.matrix_norm(convolution.weight.flatten(1), 2)
    assert largest.item() == pytest.approx(1, abs=1e-3)


def test_weights_under_spectral_norm_are_computed_in_float32_under_autocast() -> None:
    torch.manual_seed(0)
    convolution = with_spectral_norm(nn.Conv2d(6, 8, 3)).eval()
    autocast: list[bool] = []
    convolution.get_submodule("parametrizations.weight.0.parametrization").register_forward_hook(
        lambda *_: autocast.append(torch.is_autocast_enabled("cpu"))
    )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        answer = convolution(torch.randn(1, 6, 5, 5))
    assert answer.dtype == torch.bfloat16
    assert autocast == [False]


def test_a_copy_and_a_reloaded_layer_under_spectral_norm_answer_alike() -> None:
    layer = attention(16, spectral=True)
    features = torch.randn(1, 16, 6, 6)
    layer(features)  # one more power iteration
    layer.eval()
    reloaded = SelfAttention(16, spectral=True).eval()
    reloaded.load_state_dict(layer.state_dict())
    for other in (copy.deepcopy(layer), reloaded):
        assert torch.equal(other(features), layer(features))
