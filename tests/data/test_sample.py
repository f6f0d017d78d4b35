import importlib.util
import subprocess
import sys
from collections import defaultdict

import numpy as np
import pytest

from colorization.config import ConfigError
from colorization.data import sample
from colorization.data.sample import CropSet, SampleSource
from colorization.data.sources import DataConfig, open_data


def columns(crops: object) -> dict[str, set[int]]:
    assert isinstance(crops, CropSet)
    found: dict[str, set[int]] = defaultdict(set)
    for window in crops.windows:
        found[window.scene] |= set(range(window.left, window.left + window.side))
    return found


@pytest.fixture(scope="module")
def sets() -> sample.PictureSets:
    return SampleSource().open(max_unreadable=0.1)


def test_no_pixel_belongs_to_two_of_the_sets(sets: sample.PictureSets) -> None:
    train, validation, test = map(columns, (sets.train, sets.validation, sets.test))
    assert set(train) == set(validation) == set(test)
    for scene in train:
        assert not train[scene] & validation[scene]
        assert not train[scene] & test[scene]
        assert not validation[scene] & test[scene]


def test_all_photographs_come_with_the_installed_packages(sets: sample.PictureSets) -> None:
    assert set(columns(sets.train)) == {
        "astronaut", "chelsea", "coffee", "rocket", "motorcycle_left",
        "china", "flower", "grace_hopper",
    }  # fmt: skip


def test_the_defaults_give_256_training_and_48_scoring_crops_each(
    sets: sample.PictureSets,
) -> None:
    assert [len(s) for s in (sets.train, sets.validation, sets.test)] == [256, 48, 48]


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_every_picture_is_a_square_in_color_with_a_name_of_its_own(
    sets: sample.PictureSets, split: str
) -> None:
    crops = getattr(sets, split)
    pictures = [crops.picture(index) for index in range(len(crops))]
    assert all(p.shape[0] == p.shape[1] >= 64 and p.dtype == np.uint8 for p in pictures)
    assert all(np.ptp(p.astype(int), axis=2).max() > 10 for p in pictures)
    assert len({crops.name(index) for index in range(len(crops))}) == len(crops)


def test_things_are_as_large_in_training_as_in_scoring_pictures(sets: sample.PictureSets) -> None:
    def mean_side(crops: object) -> float:
        assert isinstance(crops, CropSet)
        return float(np.mean([w.side for w in crops.windows]))

    shares = np.mean(DataConfig().crop_scale)
    assert mean_side(sets.train) * shares == pytest.approx(mean_side(sets.validation), rel=0.15)


def test_two_openings_give_the_same_pictures(sets: sample.PictureSets) -> None:
    again = SampleSource().open(max_unreadable=0.1)
    for split in ("train", "validation", "test"):
        first, second = getattr(sets, split), getattr(again, split)
        assert first.windows == second.windows
        assert np.array_equal(first.picture(3), second.picture(3))


def test_the_description_says_that_no_generalization_is_measured(
    sets: sample.PictureSets,
) -> None:
    assert "shows the machinery, measures no generalization" in sets.description
    assert not sets.measures_generalization


def test_numbers_of_crops_follow_the_settings() -> None:
    config = DataConfig(source=SampleSource(crops=10, scoring_crops=3))
    sets = open_data(config)
    assert [len(s) for s in (sets.train, sets.validation, sets.test)] == [10, 3, 3]


def without(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(sample, "find_spec", lambda name: None if name in packages else find(name))


def test_a_package_that_is_not_installed_is_left_out_with_a_warning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    without(monkeypatch, "sklearn")
    with pytest.warns(UserWarning, match="sklearn is not installed"):
        sets = SampleSource().open(max_unreadable=0.1)
    assert "china" not in columns(sets.train)
    assert [len(s) for s in (sets.train, sets.validation, sets.test)] == [256, 48, 48]


@pytest.mark.filterwarnings("ignore:sample")
def test_no_package_at_all_is_an_error_that_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    without(monkeypatch, "skimage", "sklearn", "matplotlib")
    with pytest.raises(ConfigError, match="matplotlib, skimage, sklearn"):
        SampleSource().open(max_unreadable=0.1)


def test_opening_imports_nothing_that_could_download() -> None:
    code = (
        "import sys; from colorization.data.sources import DataConfig, open_data;"
        "open_data(DataConfig());"
        "print([m for m in ('pooch', 'requests', 'skimage', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
