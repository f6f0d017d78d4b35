"""What the model of many GPUs counts, and how its figures hang together."""

import pytest

from colorization.experiment import count_players, read_experiment
from scaling_model import Machines, Step, count, seconds

FAST = Machines(8, flops=1e14, within=1e11, between=1e10, latency=0, overlap=0)


def test_a_gan_averages_the_gradients_of_each_player_once_a_step() -> None:
    gan = read_experiment("pix2pix", ["model.generator.width=8", "model.discriminator.width=8"])
    players = count_players(gan)
    step = count(gan, batch=2)
    assert sorted(step.turns) == sorted(4 * parameters for parameters in players.values())
    assert count(gan, batch=4).flops == 2 * step.flops > 0
    assert count(gan, batch=4).turns == step.turns


def test_what_rests_is_not_averaged() -> None:
    resting = read_experiment("unet_cvae", ["model.network.width=8"])  # its encoder
    everything = sum(count_players(resting).values())
    assert 0 < count(resting, batch=2).gradients < 4 * everything


def test_a_gpu_alone_exchanges_nothing() -> None:
    step = Step(1e12, (100_000_000,))
    assert seconds(step, 1, FAST) == (0.01, 0.0)


def test_hosts_exchange_over_their_network_what_gpus_have_added_up_within() -> None:
    step = Step(1e12, (100_000_000,))
    within = 2 * 7 / 8 * 1e8 / 1e11
    assert seconds(step, 8, FAST)[1] == pytest.approx(within)
    assert seconds(step, 16, FAST)[1] == pytest.approx(within + 2 * 1 / 2 * 1e8 / 1e10)
    assert seconds(step, 256, FAST)[1] == pytest.approx(within + 2 * 31 / 32 * 1e8 / 1e10)


def test_what_the_backward_pass_hides_is_not_waited_for() -> None:
    step = Step(1e12, (100_000_000,))  # 10 ms, of which 6.7 go back; an exchange takes 11.75
    hiding = FAST._replace(overlap=1.0)
    assert seconds(step, 16, hiding)[1] == pytest.approx(0.01175 - 0.02 / 3)
    assert seconds(step, 16, hiding._replace(between=1e12))[1] == 0
