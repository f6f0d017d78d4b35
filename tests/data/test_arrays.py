"""Arrays of 8-bit Lab, made of the sample photographs as OpenCV converts them."""

import os
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml

import tiny_colorizers
from colorization import config
from colorization.config import ConfigError
from colorization.data import SampleSource
from colorization.data.arrays import ArrayCollection, ArraysSource
from colorization.data.collection import Subset
from colorization.data.picture_sets import PictureSets
from colorization.experiment import Experiment
from colorization.training import fit
from tiny_colorizers import Partial
from tiny_experiment import TINY

Make = Callable[..., Experiment]
SIDE = 40
SPLITS = ("train", "validation", "test")


def photos(count: int) -> np.ndarray:
    """Return sRGB (count, SIDE, SIDE, 3) uint8, all different."""
    train = SampleSource(crops=count).open(0.1).train
    resized = [
        cv2.resize(train.picture(i), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        for i in range(count)
    ]
    return np.stack(resized)


def write_arrays(folder: Path, rgb: np.ndarray, shares: Sequence[int] | None = None) -> Path:
    """Write the folder of a source; `shares` says how many pictures each color array holds."""
    lab = np.stack([cv2.cvtColor(picture, cv2.COLOR_RGB2LAB) for picture in rgb])
    folder.mkdir(exist_ok=True)
    np.save(folder / "gray_scale.npy", lab[..., 0])
    start = 0
    for number, share in enumerate(shares or [len(rgb)], start=1):
        np.save(folder / f"ab{number}.npy", lab[start : start + share, ..., 1:])
        start += share
    return folder


@pytest.fixture(scope="module")
def rgb() -> np.ndarray:
    return photos(60)


@pytest.fixture
def folder(rgb: np.ndarray, tmp_path: Path) -> Path:
    return write_arrays(tmp_path / "arrays", rgb, [25, 5, 30])


def open_arrays(folder: Path, **settings: str) -> PictureSets:
    return ArraysSource.model_validate({"path": str(folder), **settings}).open(0.1)


def names(pictures: object) -> set[str]:
    assert isinstance(pictures, Subset)
    return {pictures.name(index) for index in range(len(pictures))}


def test_each_lightness_gets_its_own_colors_from_arrays_that_follow_each_other(
    folder: Path, rgb: np.ndarray
) -> None:
    sets = open_arrays(folder)
    for pictures in (sets.train, sets.validation, sets.test):
        for index in range(len(pictures)):
            number = int(pictures.name(index).removeprefix("gray_scale.npy[").removesuffix("]"))
            found, truth = pictures.picture(index), rgb[number]
            assert found.shape == truth.shape
            assert found.dtype == np.uint8
            # What two roundings of 8-bit Lab cost, and no more.
            error = np.abs(found.astype(int) - truth)
            assert error.mean() < 1.5, number
            assert error.max() <= 12, number


def test_every_picture_is_in_one_split_and_shares_are_about_those_asked_for(folder: Path) -> None:
    sets = open_arrays(folder, split="0.5/0.3/0.2")
    found = [names(getattr(sets, split)) for split in SPLITS]
    assert set.union(*found) == {f"gray_scale.npy[{number}]" for number in range(60)}
    assert sum(map(len, found)) == 60
    assert 9 <= len(found[1]) <= 27
    assert 5 <= len(found[2]) <= 20
    assert sets.measures_generalization
    assert f"arrays in {folder} ({len(found[0])} train" in sets.description


def test_a_picture_and_its_copies_stay_in_its_split_when_others_are_added(
    folder: Path, rgb: np.ndarray
) -> None:
    before = open_arrays(folder)
    others = photos(71)[60:]
    write_arrays(folder, np.concatenate([others[:7], rgb, others[7:], rgb]), [25, 5, 101])
    after = open_arrays(folder)
    for split in SPLITS:
        numbers = [int(name[15:-1]) for name in names(getattr(before, split))]
        later = names(getattr(after, split))
        for start in (7, 71):
            assert {f"gray_scale.npy[{start + number}]" for number in numbers} <= later


def test_pixels_stay_on_disk_and_are_not_sent_to_loader_processes(folder: Path) -> None:
    train = open_arrays(folder).train
    assert isinstance(train, Subset)
    assert isinstance(train.collection, ArrayCollection)
    assert isinstance(train.collection.lightness, np.memmap)
    pickled = pickle.dumps(train)
    assert len(pickled) < 2000
    again = pickle.loads(pickled)
    assert names(again) == names(train)
    for index in range(len(train)):
        assert np.array_equal(again.picture(index), train.picture(index))


@pytest.mark.parametrize("grown", [False, True])
@pytest.mark.parametrize("file", ["gray_scale.npy", "ab1.npy", "ab3.npy"])
def test_a_change_of_any_array_changes_the_versions_of_pictures(
    file: str, grown: bool, folder: Path
) -> None:
    found = ArraysSource(path=str(folder)).collect()
    before = found.version(59)
    assert found.version(59) == before
    path, status = folder / file, (folder / file).stat()
    if grown:
        path.write_bytes(path.read_bytes() + b"more")
    later = status.st_mtime_ns + (not grown)
    os.utime(path, ns=(status.st_atime_ns, later))
    assert found.version(59) != before


def save(folder: Path, file: str, array: np.ndarray, **options: Any) -> None:
    np.save(folder / file, array, **options)


WRONG: dict[str, tuple[Callable[[Path], object], str]] = {
    "no lightness": (
        lambda f: (f / "gray_scale.npy").unlink(),
        r"no file .*gray_scale\.npy; gray_scale\.npy and ab1\.npy, \.\.\. are needed",
    ),
    "no colors": (lambda f: (f / "ab1.npy").unlink(), r"no file .*ab1\.npy"),
    "an array missing between": (
        lambda f: (f / "ab2.npy").unlink(),
        r"gray_scale\.npy holds 60 pictures, ab1\.npy together 25",
    ),
    "too many colors": (
        lambda f: save(f, "ab4.npy", np.zeros((1, SIDE, SIDE, 2), np.uint8)),
        r"holds 60 pictures, ab1\.npy, ab2\.npy, ab3\.npy, ab4\.npy together 61",
    ),
    "lightness of floats": (
        lambda f: save(f, "gray_scale.npy", np.zeros((60, SIDE, SIDE))),
        rf"gray_scale\.npy holds float64 of shape \(60, {SIDE}, {SIDE}\); uint8 with 3",
    ),
    "colors of signed numbers": (
        lambda f: save(f, "ab2.npy", np.zeros((5, SIDE, SIDE, 2), np.int8)),
        r"ab2\.npy holds int8 of shape .*uint8 with 4 dimensions",
    ),
    "colors in place of lightness": (
        lambda f: save(f, "gray_scale.npy", np.zeros((60, SIDE, SIDE, 2), np.uint8)),
        r"gray_scale\.npy holds uint8 of shape \(60, 40, 40, 2\); uint8 with 3 dimensions",
    ),
    "another size": (
        lambda f: save(f, "ab2.npy", np.zeros((5, SIDE, SIDE + 1, 2), np.uint8)),
        r"ab2\.npy has shape \(5, 40, 41, 2\); beside gray_scale\.npy .*must be \(n, 40, 40, 2\)",
    ),
    "three channels": (
        lambda f: save(f, "ab1.npy", np.zeros((25, SIDE, SIDE, 3), np.uint8)),
        r"ab1\.npy has shape \(25, 40, 40, 3\).*must be \(n, 40, 40, 2\)",
    ),
    "no pictures": (
        lambda f: save(f, "gray_scale.npy", np.zeros((0, SIDE, SIDE), np.uint8)),
        r"gray_scale\.npy holds uint8 of shape \(0, 40, 40\); .*none of them 0",
    ),
    "pictures without rows": (
        lambda f: save(f, "gray_scale.npy", np.zeros((60, 0, SIDE), np.uint8)),
        r"gray_scale\.npy holds uint8 of shape \(60, 0, 40\); .*none of them 0",
    ),
    "objects": (
        lambda f: save(f, "ab1.npy", np.array([{}], object), allow_pickle=True),
        r"cannot read .*ab1\.npy: .*Python objects",
    ),
    "a pickle": (
        lambda f: (f / "ab1.npy").write_bytes(pickle.dumps(np.zeros(3))),
        r"cannot read .*ab1\.npy: the magic string",
    ),
    "an archive": (
        lambda f: np.savez((f / "ab1.npy").open("wb"), ab1=np.zeros(3)),
        r"cannot read .*ab1\.npy: the magic string",
    ),
    "an empty file": (
        lambda f: (f / "gray_scale.npy").write_bytes(b""),
        r"cannot read .*gray_scale\.npy: EOF",
    ),
    "half a file": (
        lambda f: (f / "ab3.npy").write_bytes((f / "ab3.npy").read_bytes()[:5000]),
        r"cannot read .*ab3\.npy: ",
    ),
    "a folder": (
        lambda f: ((f / "ab2.npy").unlink(), (f / "ab2.npy").mkdir()),
        r"cannot read .*ab2\.npy: ",
    ),
    "too few for three splits": (
        lambda f: write_arrays(f, photos(3), [1, 1, 1]),
        r"of 3 pictures in .* none came into \w+; add pictures",
    ),
}


class Trap:
    """Unpickling it is seen."""

    opened = False

    def __reduce__(self) -> tuple[Any, ...]:
        return (setattr, (Trap, "opened", True))


@pytest.mark.parametrize("case", WRONG)
def test_what_is_no_such_folder_is_refused_naming_the_file(case: str, folder: Path) -> None:
    spoil, message = WRONG[case]
    spoil(folder)
    with pytest.raises(ConfigError, match=rf"^data\.source\.(path|split): .*{message}") as caught:
        open_arrays(folder)
    assert "\n" not in str(caught.value)


def test_pickled_objects_in_an_array_are_not_unpickled(folder: Path) -> None:
    save(folder, "ab1.npy", np.array([Trap()], object), allow_pickle=True)
    with pytest.raises(ConfigError, match="Python objects"):
        open_arrays(folder)
    (folder / "ab1.npy").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(ConfigError, match="magic string"):
        open_arrays(folder)
    assert not Trap.opened


def test_a_path_that_is_missing_or_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name in ("gone", "file"):
        with pytest.raises(ConfigError, match=rf"data\.source\.path: .*{name}/gray_scale\.npy"):
            open_arrays(tmp_path / name)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "source.*path: a value is needed"),
        ({"path": ""}, "path"),
        ({"path": "x", "split": "0/0.5/0.5"}, "shares above 0 that add up to 1"),
        ({"path": "x", "crops": 3}, "crops: unknown setting"),
    ],
)
def test_settings_that_cannot_work_are_refused(
    settings: dict[str, Any], message: str, tiny: Make
) -> None:
    data = yaml.safe_load(TINY)
    data["data"]["source"] = {"name": "arrays", **settings}
    with pytest.raises(ConfigError, match=message):
        config.parse(Experiment, data)


UNET = (
    "model={name: unet, generator: {name: unet, width: 4, normalization: group, dropout: 0}}",
    "train.batch_size=4",
)


def test_an_experiment_trains_on_arrays(folder: Path, tiny: Make, tmp_path: Path) -> None:
    stages = {"l1": {"turns": "l1", "epochs": 1}}
    experiment = tiny(*UNET, f"data.source={{name: arrays, path: {folder}}}", stages=stages)
    outcome = fit(experiment, tmp_path / "run")
    sets = open_arrays(folder)
    assert [entry["pictures"] for entry in outcome.history] == [len(sets.validation)]
    assert config.parse(Experiment, config.dump(experiment)) == experiment


@pytest.mark.parametrize("written", ["nested", "dotted"])
@pytest.mark.parametrize("own", ["sample", "arrays"])
def test_two_stages_train_on_two_sources_and_neither_sees_the_others_pictures(
    written: str, own: str, tiny: Make, tmp_path: Path
) -> None:
    # Greens that are in no photograph.
    green = np.zeros((60, SIDE, SIDE, 3), np.uint8)
    green[..., 1] = np.random.default_rng(0).integers(220, 256, green.shape[:3])
    folder = write_arrays(tmp_path / "arrays", green)
    sources: dict[str, dict[str, Any]] = {
        "arrays": {"name": "arrays", "path": str(folder)},
        "sample": {"name": "sample", "crops": 12, "scoring_crops": 4},
    }
    other = next(name for name in sources if name != own)
    change = {"data.source": sources[other]}
    if written == "dotted":
        change = {f"data.source.{key}": value for key, value in sources[other].items()}
    experiment = tiny(
        f"data.source={sources[own]}",
        "train.batch_size=4",
        stages={
            "pretrain": {"turns": "l1", "epochs": 1, "change": change, "select": False},
            "train": {"turns": "adversarial", "epochs": 1},
        },
    )
    Partial.built.clear()
    with tiny_colorizers.in_place_of_gan(Partial):
        outcome = fit(experiment, tmp_path / "run")
    first, second = (torch.cat(model.seen) for model in Partial.built if model.seen)
    sets = open_arrays(folder)
    counts = {"arrays": len(sets.train) // 4 * 4, "sample": 12}
    assert [len(first), len(second)] == [counts[other], counts[own]]
    is_green = {other: (first[:, 1] < -0.6), own: (second[:, 1] < -0.6)}
    assert is_green["arrays"].all()
    assert not is_green["sample"].any()
    scored = {"arrays": len(sets.validation), "sample": 4}[own]
    assert [entry["pictures"] for entry in outcome.history] == [scored, scored]


def test_a_stages_source_that_cannot_be_opened_is_refused_before_training(
    tiny: Make, tmp_path: Path
) -> None:
    change = {"data.source": {"name": "arrays", "path": str(tmp_path / "gone")}}
    stages = {
        "first": {"turns": "l1", "epochs": 1},
        "second": {"turns": "l1", "epochs": 1, "change": change},
    }
    with pytest.raises(ConfigError, match=r"stages\.second\.change: .*no file .*gone"):
        fit(tiny(*UNET, stages=stages), tmp_path / "run")
    assert not (tmp_path / "run" / "metrics.jsonl").exists()
