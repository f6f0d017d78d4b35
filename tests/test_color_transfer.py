import pytest
import torch

from colorization.color_transfer import distance_between, mapping_between


def drawn(seed: int, mean: tuple[float, float], spread: list[list[float]]) -> torch.Tensor:
    noise = torch.randn(2, 4000, generator=torch.Generator().manual_seed(seed))
    return torch.tensor(mean)[:, None] + torch.tensor(spread) @ noise


ONE = drawn(0, (0.1, -0.2), [[0.2, 0.0], [0.05, 0.1]])
OTHER = drawn(1, (-0.2, 0.1), [[0.1, 0.04], [-0.1, 0.15]])


def test_colors_get_the_mean_and_the_covariance_of_those_that_are_wanted() -> None:
    mapping = mapping_between(ONE, OTHER)
    mapped = mapping.matrix @ ONE + mapping.offset[:, None]
    torch.testing.assert_close(mapped.mean(1), OTHER.mean(1), atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.cov(mapped), torch.cov(OTHER), atol=2e-3, rtol=0)
    torch.testing.assert_close(mapping.matrix, mapping.matrix.T)  # it turns nothing around
    assert (torch.linalg.eigvalsh(mapping.matrix) > 0).all()


def test_mapped_colors_are_near_and_others_as_far_as_their_means() -> None:
    mapping = mapping_between(ONE, OTHER)
    mapped = mapping.matrix @ ONE + mapping.offset[:, None]
    assert distance_between(mapped, OTHER) < 0.01 < 0.3 < distance_between(ONE, OTHER)
    away = torch.tensor([[0.3], [0.4]])
    torch.testing.assert_close(
        distance_between(ONE, ONE + away).float(), torch.tensor(0.5), atol=1e-4, rtol=0
    )


def test_colors_that_are_as_wanted_stay() -> None:
    ab = ONE.reshape(2, 50, 80).clamp(-1, 1)
    pixels = ab.flatten(1)
    torch.testing.assert_close(mapping_between(pixels, pixels)(ab), ab, atol=1e-5, rtol=0)


@pytest.mark.parametrize("count", [1, 9])
def test_one_color_becomes_the_other_and_is_not_spread(count: int) -> None:
    gray = torch.zeros(2, count)
    mapping = mapping_between(gray, OTHER)
    mapped = mapping(0.01 * torch.randn(2, 30, 30))
    torch.testing.assert_close(mapped.mean((1, 2)), OTHER.mean(1), atol=0.02, rtol=0)
    assert mapped.std((1, 2)).max() < 0.1
    to_one = mapping_between(OTHER, torch.tensor([[0.3], [0.2]]).expand(2, count))
    mapped = to_one(OTHER.reshape(2, 50, 80))
    torch.testing.assert_close(mapped.mean((1, 2)), torch.tensor([0.3, 0.2]), atol=0.01, rtol=0)
    assert mapped.std((1, 2)).max() < 0.05


def test_mapped_colors_are_colors() -> None:
    wide = mapping_between(0.1 * ONE, 3 * OTHER)
    assert wide(torch.rand(2, 40, 40) * 2 - 1).abs().max() <= 1
