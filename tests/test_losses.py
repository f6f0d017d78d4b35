import math

import pytest
import torch
from torch import Tensor, nn

from colorization import losses
from colorization.models.adversarial import BCE, LSGAN, Hinge, Wasserstein

REAL, FAKE = torch.tensor([[2.0], [0.0]]), torch.tensor([[-1.0], [0.5]])


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


def test_bce_is_the_mean_of_the_real_and_fake_cross_entropies() -> None:
    real = (softplus(-2) + softplus(0)) / 2
    fake = (softplus(-1) + softplus(0.5)) / 2
    assert losses.bce_discriminator(REAL, FAKE).item() == pytest.approx((real + fake) / 2)
    expected = (softplus(1) + softplus(-0.5)) / 2
    assert losses.bce_generator(FAKE).item() == pytest.approx(expected)


def test_label_smoothing_touches_the_real_labels_only() -> None:
    real = (0.9 * softplus(-2) + 0.1 * softplus(2) + softplus(0)) / 2
    fake = (softplus(-1) + softplus(0.5)) / 2
    found = BCE(label_smoothing=0.1).discriminator_loss(REAL, FAKE)
    assert found.item() == pytest.approx((real + fake) / 2)
    found = LSGAN(label_smoothing=0.1).discriminator_loss(REAL, FAKE)
    assert found.item() == pytest.approx((((1.1**2 + 0.9**2) / 2) + (1 + 0.25) / 2) / 2)


def labels(real: Tensor, fake: Tensor, noise: float) -> tuple[Tensor, Tensor]:
    """The labels in a BCE loss: its gradient by a logit is (sigmoid - label) / 2 / count."""
    real, fake = real.clone().requires_grad_(), fake.clone().requires_grad_()
    BCE(label_noise=noise).discriminator_loss(real, fake).backward()
    assert real.grad is not None
    assert fake.grad is not None
    return (
        real.detach().sigmoid() - 2 * len(real) * real.grad,
        fake.detach().sigmoid() - 2 * len(fake) * fake.grad,
    )


def test_label_noise_draws_one_label_a_batch_below_one_and_one_above_zero() -> None:
    torch.manual_seed(0)
    drawn = [labels(REAL, FAKE, 0.1) for _ in range(200)]
    for real, fake in drawn:
        torch.testing.assert_close(real, real[:1].expand_as(real))
        torch.testing.assert_close(fake, fake[:1].expand_as(fake))
    reals = torch.stack([real[0, 0] for real, _ in drawn])
    fakes = torch.stack([fake[0, 0] for _, fake in drawn])
    assert 0.9 <= reals.min() < 0.91
    assert 0.99 < reals.max() <= 1
    assert -1e-6 <= fakes.min() < 0.01
    assert 0.09 < fakes.max() <= 0.1
    assert abs(torch.corrcoef(torch.stack([reals, fakes]))[0, 1]) < 0.3


def test_without_label_noise_no_random_number_is_drawn() -> None:
    state = torch.get_rng_state()
    real, fake = labels(REAL, FAKE, 0.0)
    torch.testing.assert_close(real, torch.ones_like(real))
    torch.testing.assert_close(fake, torch.zeros_like(fake))
    assert torch.equal(torch.get_rng_state(), state)


def test_a_loss_tells_what_looks_real_to_its_discriminator() -> None:
    answers = torch.tensor([[-2.0, 0.3], [0.4, 3.0]])
    assert BCE().looks_real(answers) == Hinge().looks_real(answers) == 0.5
    assert LSGAN().looks_real(answers) == -0.5
    assert Wasserstein.threshold is None
    with pytest.raises(ValueError, match="Wasserstein has no answer that parts real from fake"):
        Wasserstein().looks_real(answers)


def test_lsgan_is_half_the_squared_distances_from_one_and_zero() -> None:
    assert losses.lsgan_discriminator(REAL, FAKE).item() == pytest.approx((1 + 0.625) / 2)
    assert losses.lsgan_generator(FAKE).item() == pytest.approx((4 + 0.25) / 2)


def test_hinge_is_flat_beyond_its_margin() -> None:
    assert losses.hinge_discriminator(REAL, FAKE).item() == pytest.approx(0.5 + 0.75)
    found = Hinge(margin=0.9).discriminator_loss(REAL, FAKE)
    assert found.item() == pytest.approx(0.45 + 0.7)
    assert losses.hinge_discriminator(torch.tensor([3.0]), torch.tensor([-3.0])).item() == 0


def test_wasserstein_is_the_difference_of_means() -> None:
    assert losses.wasserstein_discriminator(REAL, FAKE).item() == pytest.approx(-0.25 - 1)
    assert Wasserstein().generator_loss(FAKE).item() == pytest.approx(0.25)
    assert Hinge().generator_loss(FAKE).item() == pytest.approx(0.25)


@pytest.mark.parametrize("norm", [0.0, 1.0, 3.0])
def test_the_gradient_penalty_of_a_linear_critic_is_its_squared_slope_less_one(norm: float) -> None:
    direction = torch.randn(3 * 4 * 4, generator=torch.Generator().manual_seed(0))
    weight = (norm * direction / direction.norm()).view(1, 3, 4, 4)

    def critic(pictures: Tensor) -> Tensor:
        return (pictures * weight).sum((1, 2, 3))

    penalty = losses.gradient_penalty(critic, torch.rand(5, 3, 4, 4), torch.rand(5, 3, 4, 4))
    assert penalty.item() == pytest.approx((norm - 1) ** 2, abs=1e-5)


def test_the_gradient_penalty_is_taken_between_real_and_fake_and_trains_the_critic_alone() -> None:
    seen: list[Tensor] = []
    scale = nn.Parameter(torch.tensor(2.0))

    def critic(pictures: Tensor) -> Tensor:
        seen.append(pictures.detach())
        return scale * pictures.sum((1, 2, 3))

    real = torch.zeros(64, 1, 1, 1, requires_grad=True)
    fake = torch.ones(64, 1, 1, 1, requires_grad=True)
    losses.gradient_penalty(critic, real, fake).backward()
    assert 0 <= seen[0].min() < 0.2 < 0.8 < seen[0].max() <= 1
    assert scale.grad is not None
    assert scale.grad.item() == pytest.approx(2 * (2 - 1))
    assert real.grad is None
    assert fake.grad is None
