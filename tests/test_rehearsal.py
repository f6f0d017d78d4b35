"""What is foretold of an experiment is what happens when it is trained."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import small_recipe
from colorization import config, rehearsal
from colorization.config import override, parse
from colorization.distributed import current_ranks
from colorization.experiment import Experiment, count_players, recipes
from colorization.rehearsal import activation_bytes, gradient_difference, rehearse_step
from rank_pool import RankPool
from rehearsed import gradients_differ_by

Make = Callable[..., Experiment]
ADVERSARIAL = {"only": {"turns": "adversarial", "steps": 1}}

pytestmark = pytest.mark.usefixtures("one_thread")


def small(name: str, *overrides: str) -> Experiment:
    data = override(small_recipe.read_small_recipe(name), config.parse_overrides(overrides))
    return parse(Experiment, data, name)


@pytest.mark.parametrize("name", recipes())
def test_every_recipes_memory_is_estimated_and_holds_its_weights(name: str) -> None:
    experiment = small(name)
    parameters = sum(count_players(experiment).values())
    # Some of a network may rest in a stage: weights at least, and something kept beside them.
    assert activation_bytes(experiment) > 4 * parameters


def test_the_estimate_grows_with_batch_size_width_and_pictures_and_falls_with_savings(
    tiny: Make,
) -> None:
    def estimate(*words: str) -> int:
        return activation_bytes(tiny("data.size=64", *words, stages=ADVERSARIAL))

    plain = estimate()
    assert estimate("train.batch_size=16") > 1.5 * plain
    assert estimate("model.generator.width=8") > 1.5 * plain
    assert estimate("data.size=128") > 3 * plain
    assert estimate("train.activation_checkpointing=true") < 0.9 * plain
    assert estimate("train.micro_batches=4") < 0.9 * plain


def test_the_stage_with_the_most_memory_counts(tiny: Make) -> None:
    wide = {"turns": "l1", "steps": 1, "change": {"train.batch_size": 128}}
    one, other = tiny(stages=ADVERSARIAL), tiny(stages={"wide": wide, **ADVERSARIAL})
    skipped = tiny(stages={"skipped": {**wide, "steps": 0}, **ADVERSARIAL})
    assert activation_bytes(other) > 1.5 * activation_bytes(one)
    assert activation_bytes(skipped) == activation_bytes(one)


def step_bytes(*settings: str) -> int:
    """Rehearse a step in a process of its own; return what it took beside what was there."""
    code = (
        "import sys, yaml, torch; sys.path.append('tests/support'); torch.set_num_threads(1)\n"
        "from colorization import config; from colorization.experiment import Experiment\n"
        "from colorization.rehearsal import rehearse_step; from tiny_experiment import TINY\n"
        "data = config.override(yaml.safe_load(TINY), config.parse_overrides(sys.argv[1:]))\n"
        "memory = rehearse_step(config.parse(Experiment, data), 'cpu', share=2)\n"
        "assert memory.total == memory.base + memory.step; print(memory.base, memory.step)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *settings],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parent.parent,
    )
    base, step = map(int, done.stdout.split())
    assert base > 50e6  # torch alone
    return step


@pytest.mark.slow
def test_a_rehearsed_step_takes_what_its_batch_needs(tiny: Make) -> None:
    sizes = ("data.size=64", "model.generator.width=8")
    few, many = (*sizes, "train.batch_size=16"), (*sizes, "train.batch_size=512")
    took = step_bytes(*many) - step_bytes(*few)  # libraries load much at a first step
    kept = (activation_bytes(tiny(*many)) - activation_bytes(tiny(*few))) / 2
    assert 0.7 * kept < took < 4 * kept


def test_a_rehearsal_needs_neither_pictures_nor_pretrained_weights(tiny: Make) -> None:
    experiment = tiny("data.source={name: folder, path: /nowhere}", stages=ADVERSARIAL)
    assert rehearse_step(experiment, "cpu").base > 0


@pytest.mark.parametrize("status", [None, "Name: python", "VmRSS:\t1 kB"])
def test_where_the_system_does_not_tell_a_process_its_memory_its_peak_is_taken(
    status: str | None, tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if status is not None:
        (tmp_path / "status").write_text(status)
        (tmp_path / "clear_refs").mkdir()  # cannot be written to
    monkeypatch.setattr(rehearsal, "_PROCESS", tmp_path)
    assert rehearse_step(tiny(stages=ADVERSARIAL), "cpu").base > 50e6


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param((), id="group norm"),
        pytest.param(("model.generator.normalization=batch",), id="batch norm"),
        pytest.param(("model.generator.dropout=0.5",), id="dropout"),
        pytest.param(("train.micro_batches=2",), id="micro-batches"),
        pytest.param(("train.activation_checkpointing=true",), id="checkpointing"),
        pytest.param(("model.augmentation.name=ada",), id="augmentation"),
    ],
)
def test_two_ranks_get_the_gradients_that_one_gets_by_itself(
    settings: tuple[str, ...], tiny: Make, two_ranks: RankPool
) -> None:
    first, second = two_ranks.run(gradients_differ_by, tiny(*settings))
    assert first == second
    assert first < 1e-5


@pytest.mark.parametrize("player", ["UNetGenerator", "PatchDiscriminator"])
def test_a_player_whose_gradients_are_not_averaged_is_found_out(
    player: str, tiny: Make, two_ranks: RankPool
) -> None:
    first, second = two_ranks.run(gradients_differ_by, tiny(), player)
    assert first == second
    assert first > 0.01


def test_one_rank_has_nothing_to_compare(tiny: Make) -> None:
    assert gradient_difference(tiny(), current_ranks("cpu")) == 0
