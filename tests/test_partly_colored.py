"""Colors that parts of pictures have already: made, packed, cropped with them, trained on."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from colorization.color import ab_to_bytes, bytes_to_ab, rgb_to_lab
from colorization.data import DataConfig, TrainingLoader, open_data
from colorization.data.curation.candidate import look
from colorization.data.curation.rules import CurationRules
from colorization.data.folder import FileCollection, FolderSource
from colorization.data.given_instances import GivenInstances
from colorization.data.in_memory import InMemory
from colorization.data.loaders import ScoringLoader
from colorization.data.transforms import scoring_crop, training_crop
from colorization.distributed import current_ranks
from colorization.evaluation import Evaluation
from colorization.experiment import build_model
from colorization.inference import PictureColorizer
from colorization.models.cinn.cinn import CINN
from colorization.models.colorizer import Progress
from colorization.partly_colored import PartlyColoring, Seen
from tiny_pair import tiny_experiment

SIDE = 48


class TrueColors:
    """Pictures, all of whose colors are there already."""

    def __init__(self, count: int) -> None:
        train = open_data(DataConfig()).train
        self._pictures = [np.ascontiguousarray(train.picture(i)[:SIDE]) for i in range(count)]

    def __len__(self) -> int:
        return len(self._pictures)

    def name(self, index: int) -> str:
        return f"{index}"

    def picture(self, index: int, short_side: int = 0) -> np.ndarray:
        return self._pictures[index]

    def planes(self, index: int, short_side: int = 0) -> np.ndarray:
        rgb = self._pictures[index]
        ab = rgb_to_lab(torch.from_numpy(rgb).permute(2, 0, 1)[None])[0, 1:]
        return np.concatenate([rgb, ab_to_bytes(ab).permute(1, 2, 0).numpy()], axis=2)


@pytest.fixture(scope="module")
def pictures() -> TrueColors:
    return TrueColors(16)


def config(**settings: Any) -> DataConfig:
    return DataConfig.model_validate({"size": 32, "crop_scale": (0.5, 0.8), **settings})


def disagreement(rgb: torch.Tensor, colored: torch.Tensor | None) -> float:
    """Return how far colors that come with pictures are from the pictures' own, in Lab."""
    assert colored is not None
    return (110 * (rgb_to_lab(rgb)[:, 1:] - bytes_to_ab(colored))).abs().mean().item()


def test_bytes_hold_ab_to_half_a_unit_of_lab() -> None:
    ab = torch.linspace(-1, 1, 221)
    assert ((bytes_to_ab(ab_to_bytes(ab)) - ab) * 110).abs().max() <= 0.5001
    assert bytes_to_ab(ab_to_bytes(torch.zeros(1))) == 0


def test_colors_are_cut_mirrored_and_resized_with_their_picture(pictures: TrueColors) -> None:
    # The colors of an average are not the average of colors, but near to it where few are mixed.
    for seed in range(6):
        planes = pictures.planes(seed)
        crop = training_crop(planes, 32, (0.5, 0.8), True, np.random.default_rng(seed))
        alone = training_crop(planes[..., :3], 32, (0.5, 0.8), True, np.random.default_rng(seed))
        assert np.array_equal(crop[..., :3], alone)
        assert crop.shape == (32, 32, 5)
        assert crop.flags.c_contiguous
    assert scoring_crop(pictures.planes(0), 20).shape == (20, 20, 5)


@pytest.mark.parametrize("in_memory", [False, True])
def test_training_batches_bring_them_aligned(pictures: TrueColors, in_memory: bool) -> None:
    data = config()
    held = InMemory(pictures, data) if in_memory else pictures
    loader = TrainingLoader(held, data, batch_size=8, seed=0)
    batches = list(loader.epoch(0))
    assert len(batches) == 2
    for batch in batches:
        right = disagreement(batch.rgb, batch.colored)
        assert batch.colored is not None
        assert right < 2.5
        assert disagreement(batch.rgb, batch.colored.flip(3)) > 2 * right


def test_scoring_batches_bring_them_and_other_sets_bring_none(pictures: TrueColors) -> None:
    for batch in ScoringLoader(pictures, config(), batch_size=8):
        assert disagreement(batch.rgb, batch.colored) < 2.5
    sample = open_data(config()).train
    assert next(iter(ScoringLoader(sample, config(), batch_size=4))).colored is None


def scene_model() -> CINN:
    model = build_model(tiny_experiment("lab"))
    assert isinstance(model, CINN)
    return model


def test_a_scene_model_trains_on_what_is_there_and_else_on_boxes(pictures: TrueColors) -> None:
    model = scene_model()
    batch = next(TrainingLoader(pictures, config(), batch_size=8, seed=0).epoch(0))
    assert batch.colored is not None
    lab = rgb_to_lab(batch.rgb)
    there = torch.cat([lab, bytes_to_ab(batch.colored)], 1)
    progress = Progress("likelihood", 0, 1)

    def loss(lab: torch.Tensor, seed: int = 0) -> float:
        torch.manual_seed(seed)
        (turn,) = model.turns(lab, progress)
        return turn.loss.item()

    nothing = torch.cat([lab, torch.zeros_like(lab[:, 1:])], 1)
    assert loss(there) == loss(there)
    assert loss(there) != loss(nothing)
    assert loss(lab) not in (loss(there), loss(nothing))
    told, untold = (model.measure(x)["bits_per_dimension"] for x in (there, lab))
    assert not torch.equal(told, untold)


def test_a_scene_model_is_scored_on_pictures_with_what_is_there(pictures: TrueColors) -> None:
    class Copying(CINN):
        """Colors what is colored already, and nothing else."""

        def colorize(self, lightness, samples=1, temperature=None, seed=0, *, colored=None):
            ab = torch.zeros_like(lightness).expand(-1, 2, -1, -1) if colored is None else colored
            return ab.expand(samples, -1, -1, -1, -1)

    experiment = tiny_experiment("lab")
    model = Copying(scene_model().config, 32, [4, 8])
    evaluation = Evaluation(experiment, pictures, current_ranks("cpu"))
    gray = evaluation.leave_gray()
    assert evaluation.scores(model, gray)["ab_mae"] < 0.25 * gray["ab_mae"]
    untold = Evaluation(experiment, open_data(experiment.data).validation, current_ranks("cpu"))
    gray = untold.leave_gray()
    assert untold.scores(model, gray)["ab_mae"] == pytest.approx(gray["ab_mae"])


def test_other_models_train_and_score_on_such_a_set_as_on_any(pictures: TrueColors) -> None:
    experiment = tiny_experiment("lightness")
    evaluation = Evaluation(experiment, pictures, current_ranks("cpu"))
    scores = evaluation.scores(build_model(experiment), evaluation.leave_gray())
    assert np.isfinite(scores["ab_mae"])


@pytest.fixture
def photos(tmp_path: Path) -> FileCollection:
    (tmp_path / "photos").mkdir()
    train = open_data(DataConfig()).train
    lines = []
    for number in range(10):
        rgb = train.picture(number)
        name = f"{number}.png"
        Image.fromarray(rgb).resize((160, 120)).save(tmp_path / "photos" / name)
        box = {"label": "dog", "bbox": [20, 10, 80, 70]}
        wrong = {"label": "dog", "bbox": [500, 10, 80, 70]}
        lines.append({"name": name, "instances": [box] if number else [wrong]})
    (tmp_path / "found.jsonl").write_text("\n".join(map(json.dumps, lines[:9])))
    return FolderSource.model_validate({"path": str(tmp_path / "photos")}).collect()


def test_what_is_packed_is_what_the_instance_model_made_of_the_instances(
    photos: FileCollection, tmp_path: Path
) -> None:
    instance = PictureColorizer(build_model(tiny_experiment(seed=1)), 32)
    given = GivenInstances(tmp_path / "found.jsonl")
    rules = CurationRules(size=60, instances="colored")
    looked = [Seen(i, *look(photos, i, 0, rules)) for i in range(10)]
    looked[3] = looked[3]._replace(
        candidate=replace(looked[3].candidate, dropped="too_small"), rgb=None
    )
    added = PartlyColoring(instance, given, 0.5, 64).add(photos, looked)
    assert [one.dropped for one, _ in added[:5]] == ["unreadable", None, None, "too_small", None]
    assert "dog at 500, 10, 80, 70 lies outside" in added[0][0].reason
    for number, (_, planes) in enumerate(added):
        if number in (0, 3):
            assert planes is None
            continue
        assert planes is not None
        assert planes.shape == (60, 80, 5)
        rgb = looked[number].rgb
        assert rgb is not None
        assert np.array_equal(planes[..., :3], rgb)
        inside = np.zeros((60, 80), bool)
        inside[5:40, 10:50] = True
        assert (planes[~inside][:, 3:] == 128).all()
        colored = (planes[inside][:, 3:] != 128).any(1).mean()
        assert colored == 0 if number == 9 else colored > 0.8  # the last is not in the file
    again = PartlyColoring(instance, given, 0.5, 64).add(photos, looked)
    for (_, one), (_, other) in zip(added, again, strict=True):
        assert (one is None and other is None) or np.array_equal(one, other)  # pyright: ignore
    cats = PartlyColoring(instance, given, 0.5, 64, ["cat"]).add(photos, looked)
    assert all(planes is None or (planes[..., 3:] == 128).all() for _, planes in cats)
