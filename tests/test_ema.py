import pytest
import torch
from torch import nn

from colorization.ema import AveragedWeights


def network(value: float) -> nn.Linear:
    layer = nn.Linear(1, 1, bias=False)
    nn.init.constant_(layer.weight, value)
    return layer


def test_the_average_follows_the_weights_by_a_decay_that_grows() -> None:
    layer = network(1.0)
    averages = AveragedWeights({"g": layer}, decay=0.3)
    nn.init.constant_(layer.weight, 2.0)
    expected = 1.0
    for update in range(1, 6):
        averages.update()
        decay = min(0.3, (1 + update) / (10 + update))
        expected = decay * expected + (1 - decay) * 2.0
        with averages.in_place():
            assert layer.weight.item() == pytest.approx(expected)


def test_afterwards_the_network_holds_its_own_weights_also_if_scoring_fails() -> None:
    layer = network(1.0)
    averages = AveragedWeights({"g": layer}, decay=0.9)
    nn.init.constant_(layer.weight, 2.0)

    def score() -> None:
        with averages.in_place():
            assert layer.weight.item() == 1.0
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score()
    assert layer.weight.item() == 2.0


def test_running_statistics_are_copied_and_not_averaged() -> None:
    norm = nn.BatchNorm2d(2)
    averages = AveragedWeights({"g": norm}, decay=0.999)
    norm(torch.randn(4, 2, 3, 3))
    expected = {key: tensor.clone() for key, tensor in norm.named_buffers()}
    averages.update()
    norm(torch.randn(4, 2, 3, 3))
    with averages.in_place():
        assert all(torch.equal(tensor, expected[key]) for key, tensor in norm.named_buffers())
    assert norm.num_batches_tracked == 2


def test_going_on_from_a_state_equals_never_having_stopped() -> None:
    layer = network(1.0)
    straight = AveragedWeights({"g": layer}, decay=0.99)
    nn.init.constant_(layer.weight, 2.0)
    straight.update()
    resumed = AveragedWeights({"g": layer}, decay=0.99)
    resumed.load_state_dict(straight.state_dict())
    nn.init.constant_(layer.weight, 3.0)
    for averages in (straight, resumed):
        averages.update()
    with straight.in_place():
        expected = layer.weight.item()
    with resumed.in_place():
        assert layer.weight.item() == expected


def test_what_rests_and_constants_kept_as_parameters_are_copied_and_not_averaged() -> None:
    module = nn.ParameterDict(
        {
            "trained": nn.Parameter(torch.zeros(2)),
            "resting": nn.Parameter(torch.zeros(2), requires_grad=False),
            "order": nn.Parameter(torch.tensor([0, 1]), requires_grad=False),
        }
    )
    averages = AveragedWeights({"g": module}, decay=0.9)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 1
    averages.update()
    with averages.in_place():
        found = {name: parameter.tolist() for name, parameter in module.items()}
    assert found["trained"] == pytest.approx([1 - 2 / 11] * 2)
    assert found["resting"] == [1, 1]
    assert found["order"] == [1, 2]
    assert module["order"].dtype == torch.int64
