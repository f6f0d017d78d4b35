from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from colorization.experiment import Experiment
from colorization.metrics import ColorizationScores, against_gray
from colorization.score_names import (
    MEANINGS,
    PERCEPTUAL_SCORES,
    SAMPLE_SCORES,
    SCORES,
    glossary,
    is_of_the_machine,
    meaning,
)
from colorization.training import fit


def test_the_known_scores_are_those_that_are_computed() -> None:
    scores = ColorizationScores("cpu")
    lab = torch.rand(2, 3, 16, 16) - 0.5
    scores.update(lab[:, :1], lab[:, 1:], -lab[:, 1:])
    computed = scores.compute()
    assert against_gray(computed, computed) == 1
    assert {*computed, "against_gray"} == {*SCORES, "pictures", "colorfulness"}


def test_no_score_has_two_meanings() -> None:
    names = [*SCORES, *SAMPLE_SCORES, *PERCEPTUAL_SCORES]
    assert len(set(names)) == len(names)


def test_a_score_of_samples_is_better_the_same_way_as_that_of_one() -> None:
    for name, direction in SAMPLE_SCORES.items():
        plain = name.removeprefix("mean_sample_").removeprefix("best_of_8_")
        assert direction == SCORES[plain]


MODELS = {
    "gan": ((), "adversarial"),
    "cvae": (("model={name: cvae, network: {name: naive, width: 4}}", "data.size=64"), "vae"),
}


@pytest.mark.parametrize("model", list(MODELS))
def test_every_number_of_an_epoch_has_a_meaning(
    model: str, tiny: Callable[..., Experiment], tmp_path: Path
) -> None:
    words, turns = MODELS[model]
    experiment = tiny(*words, stages={"only": {"turns": turns, "epochs": 1}})
    (line,) = fit(experiment, tmp_path, device="cpu").history
    numbers = line.keys() - {"epoch", "stage"}
    assert [name for name in sorted(numbers) if meaning(name) is None] == []
    assert {name for name in numbers if is_of_the_machine(name)} == {
        "seconds",
        "pictures_per_second",
        "train/loading_share",
        *(name for name in numbers if name.startswith("system/")),
    }


def test_a_number_under_a_prefix_means_the_same() -> None:
    assert meaning("gray/psnr") == meaning("test/psnr") == MEANINGS["psnr"]
    assert meaning("system/gpu_3_utilization_percentage") is not None
    assert meaning("train/generator/l1") is not None
    assert meaning("no_such") is None


def test_the_glossary_has_a_row_with_unit_and_direction_for_each_number() -> None:
    text = glossary()
    assert text.count("\n| `") == len(MEANINGS)
    assert "| `psnr` | dB | higher |" in text
    assert "| `against_gray` |  | lower |" in text
    assert "| `seconds` | s |" in glossary(["seconds"])
