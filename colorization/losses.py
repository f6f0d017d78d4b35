"""Losses as plain functions of tensors; means over elements and batch."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel


def bce_discriminator(
    real: Tensor, fake: Tensor, smoothing: float = 0.0, noise: float = 0.0
) -> Tensor:
    """Cross entropy of logits, mean of the real and fake terms; real labels are 1 - smoothing.

    With `noise` they are drawn below that, and fake labels above 0, by so much at most: one number
    for all real answers and one for all fake ones. Goodfellow et al. 2014; one-sided label
    smoothing: Salimans et al. 2016, section 3.4.
    """
    real_labels, fake_labels = torch.full_like(real, 1 - smoothing), torch.zeros_like(fake)
    if noise > 0:
        below, above = noise * torch.rand(2, device=real.device)
        real_labels, fake_labels = real_labels - below, fake_labels + above
    return (
        F.binary_cross_entropy_with_logits(real, real_labels)
        + F.binary_cross_entropy_with_logits(fake, fake_labels)
    ) / 2


def bce_generator(fake: Tensor) -> Tensor:
    """Non-saturating loss: cross entropy of fakes' logits against 1 (Goodfellow et al. 2014)."""
    return F.binary_cross_entropy_with_logits(fake, torch.ones_like(fake))


def lsgan_discriminator(real: Tensor, fake: Tensor, smoothing: float = 0.0) -> Tensor:
    """Least squares, mean of the real and fake terms (Mao et al. 2017, equation 2, b=1, a=0)."""
    return ((real - (1 - smoothing)).square().mean() + fake.square().mean()) / 2


def lsgan_generator(fake: Tensor) -> Tensor:
    """Least squares against 1 (Mao et al. 2017, equation 2, c=1; without the factor 1/2)."""
    return (fake - 1).square().mean()


def hinge_discriminator(real: Tensor, fake: Tensor, margin: float = 1.0) -> Tensor:
    """Sum of relu(margin - real) and relu(margin + fake), means (Lim and Ye 2017; SAGAN)."""
    return F.relu(margin - real).mean() + F.relu(margin + fake).mean()


def wasserstein_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """Critic's loss: mean(fake) - mean(real) (Arjovsky et al. 2017)."""
    return fake.mean() - real.mean()


def raise_score(fake: Tensor) -> Tensor:
    """Generator's loss of hinge and Wasserstein GANs: -mean(fake)."""
    return -fake.mean()


def gradient_penalty(critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor) -> Tensor:
    """Mean squared distance of the critic's gradient norm from 1, between real and fake pictures.

    real and fake: (B, C, H, W); one point is drawn on each line between them. Gulrajani et al.
    2017, equation 3, unweighted. Needs full precision: call it outside autocast.
    """
    share = torch.rand(len(real), 1, 1, 1, device=real.device)
    between = torch.lerp(real.detach(), fake.detach(), share).requires_grad_()
    # Neither compiled networks nor the fused kernels of attention have a second derivative.
    with torch.compiler.set_stance("force_eager"), sdpa_kernel(SDPBackend.MATH):
        answers = critic(between)
    (slopes,) = torch.autograd.grad(answers.sum(), between, create_graph=True)
    return (slopes.flatten(1).norm(dim=1) - 1).square().mean()
