"""Blocks that compute twice change memory and nothing else; so do batches computed in parts."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

import rank_pool
from colorization import config
from colorization.config import ConfigError, override, parse
from colorization.experiment import Experiment, build_model
from colorization.memory_saving import (
    checkpoint_activations,
    describe_saving,
    with_less_memory,
)
from colorization.models.colorizer import Colorizer, Progress
from rank_pool import RankPool
from small_recipe import read_small_recipe

Make = Callable[..., Experiment]
CHECKPOINTED = "train.activation_checkpointing=true"
PLAIN = {"train.precision": "float32", "train.grid_pictures": 2, "data.size": 64}
SAMPLE = {"name": "sample", "crops": 16, "scoring_crops": 4}

# Networks whose blocks hold what a recomputation could disturb: running statistics and dropout,
# a posterior's draw, couplings, attention, spectral norms, and layers that work in place.
FAMILIES = {
    "pix2pix": {"model.generator.dropout": 0.5, "model.generator.normalization": "batch"},
    "unet_cvae": {},
    "naive_cvae": {},
    "cinn": {},
    "vit_gan": {},
    "unet_sagan": {},
}

pytestmark = pytest.mark.usefixtures("one_thread")
every_family = pytest.mark.parametrize("name", FAMILIES)


def of_two_steps(name: str, *overrides: str) -> Experiment:
    """A small recipe's last stage, two steps on the sample photographs."""
    data = read_small_recipe(name)
    *_, last = data["train"]["stages"].values()
    last = {"turns": last["turns"], "epochs": 1}
    data["train"]["stages"] = {"only": last}
    data["train"]["batch_size"] = 8
    data["data"] = {"source": SAMPLE}
    words = config.parse_overrides(overrides)
    return parse(Experiment, override(data, {**PLAIN, **FAMILIES[name], **words}), name)


def trained(experiment: Experiment, run: Path) -> dict[str, Tensor]:
    (state,) = rank_pool.fit(experiment, run).states
    return state["model"]


@every_family
def test_checkpointed_networks_train_to_the_same_weights_and_buffers(
    name: str, tmp_path: Path
) -> None:
    plain = trained(of_two_steps(name), tmp_path / "plain")
    checkpointed = trained(of_two_steps(name, CHECKPOINTED), tmp_path / "checkpointed")
    assert plain.keys() == checkpointed.keys()
    start = build_model(of_two_steps(name)).state_dict()
    assert any(not torch.equal(plain[key], start[key]) for key in start)
    for key, tensor in plain.items():
        assert torch.equal(tensor, checkpointed[key]), key


def kept_bytes(model: Colorizer, experiment: Experiment) -> int:
    """Return the bytes that one forward pass of the networks that colorize keeps."""
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, nn.Parameter):
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    size = experiment.data.size
    torch.manual_seed(0)
    lab = torch.rand(4, 3, size, size)
    (stage,) = experiment.train.stages.values()
    for player in set(model.players) & set(model.training_only):
        model.get_submodule(player).requires_grad_(False)
    with saved_tensors_hooks(keep, lambda tensor: tensor):
        next(model.turns(lab, Progress(stage.turns, 0, 1)))
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    return sum(storage.nbytes() for place, storage in kept.items() if place not in weights)


@every_family
def test_checkpointed_networks_keep_less(name: str) -> None:
    experiment = of_two_steps(name)
    model = build_model(experiment).train()
    before = kept_bytes(model, experiment)
    checkpoint_activations(model)
    assert kept_bytes(model, experiment) < 0.8 * before


def test_without_gradients_a_checkpointed_network_is_what_it_was() -> None:
    model = build_model(of_two_steps("pix2pix")).eval()
    lightness = torch.rand(2, 1, 64, 64)
    with torch.no_grad():
        before = model.colorize(lightness)
        checkpoint_activations(model)
        assert torch.equal(model.colorize(lightness), before)


def test_two_ranks_that_checkpoint_share_batch_statistics_as_ever(
    two_ranks: RankPool, tmp_path: Path
) -> None:
    experiment = of_two_steps("pix2pix", "model.generator.dropout=0", CHECKPOINTED)
    plain = of_two_steps("pix2pix", "model.generator.dropout=0")
    first, second = two_ranks.run(rank_pool.fit, experiment, tmp_path / "checkpointed")
    expected, _ = two_ranks.run(rank_pool.fit, plain, tmp_path / "plain")
    for key, tensor in expected.states[0]["model"].items():
        assert torch.equal(first.states[0]["model"][key], second.states[0]["model"][key]), key
        assert torch.equal(first.states[0]["model"][key], tensor), key


def test_compiled_networks_choose_themselves_what_they_keep(tiny: Make) -> None:
    with pytest.raises(ConfigError, match="compile=true and activation_checkpointing=true"):
        tiny("train.compile=true", CHECKPOINTED)


@pytest.mark.parametrize("normalization", ["group", "batch"])
def test_less_memory_is_taken_in_stages_with_settings_of_their_own_too(
    normalization: str, tiny: Make
) -> None:
    own = {"train.compile": True, "train.learning_rate": 0.01}
    first = {"turns": "l1", "epochs": 1, "change": own}
    second = {"turns": "adversarial", "epochs": 1, "change": {"train.compile": True}}
    experiment = tiny(
        f"model.generator.normalization={normalization}",
        stages={"first": first, "second": second},
    )
    saving = with_less_memory(experiment, 1)
    parts = ", 4 micro-batches" if normalization == "group" else ""
    for stage in ("first", "second"):
        assert describe_saving(saving.at(stage)) == f"activation checkpointing{parts}"
        assert not saving.at(stage).train.compile
    assert saving.at("first").train.learning_rate == 0.01
    assert with_less_memory(saving, 1) == saving


def test_a_stage_keeps_more_micro_batches_of_its_own(tiny: Make) -> None:
    stages = {
        str(parts): {"turns": "l1", "epochs": 1, "change": {"train.micro_batches": parts}}
        for parts in (2, 8)
    }
    saving = with_less_memory(tiny("train.batch_size=8", stages=stages), 1)
    assert saving.at("2").train.micro_batches == 4
    assert saving.at("8").train.micro_batches == 8
