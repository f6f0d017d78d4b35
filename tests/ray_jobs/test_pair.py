"""pair.py as a person runs it: one registered model of two."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import pair
from pair_registration import Pair, make_pair
from registry import load_registered

# isort: split
from mlflow import MlflowClient, MlflowException

from colorization.color_flags import parse_flat
from colorization.inference import PictureColorizer
from colorization.pair import load_colorizer
from colorization.photographs import colorize_bytes
from colorization.pictures import Picture, encode_picture
from stored_models import exported_model, find_model
from tiny_pair import export_untrained, tiny_experiment

NAME = "colorizer-instances"
BOX = '[{"label": "dog", "bbox": [20, 10, 70, 80]}]'


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pair")
    export_untrained(tiny_experiment(seed=1), folder / "instance")
    export_untrained(tiny_experiment("lab", size=64), folder / "scene")
    return folder


@pytest.fixture(scope="module")
def uri(folder: Path, new_store: Callable[[Path], str]) -> str:
    return new_store(folder / "store")


def run(folder: Path, uri: str, *words: str, scene: str = "scene") -> int:
    models = ["--instance", str(folder / "instance"), "--scene", str(folder / scene)]
    return pair.main([*models, "--tracking-uri", uri, *words])


@pytest.fixture(scope="module")
def registered(folder: Path, uri: str) -> str:
    assert run(folder, uri, "--register", NAME, "--champion", "--out", str(folder / "out")) == 0
    return f"models:/{NAME}@champion"


@pytest.fixture(scope="module")
def colorizer(folder: Path, registered: str) -> PictureColorizer:
    return load_colorizer(folder / "out")


@pytest.fixture(scope="module")
def picture() -> bytes:
    rgb = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    return encode_picture(Picture(rgb), ".png")


def test_one_version_holds_both_models_and_says_what_it_is_made_of(
    registered: str, folder: Path, uri: str, colorizer: PictureColorizer, tmp_path: Path
) -> None:
    version = MlflowClient(uri).get_model_version_by_alias(NAME, "champion")
    assert str(version.version) == "1"
    assert version.tags["pair.scene"] == str(folder / "scene")
    assert version.tags["family"] == "cinn"
    assert "pair" in str(version.description)
    exported = exported_model(registered, uri, tmp_path)
    assert load_colorizer(exported).digest == colorizer.digest
    assert colorizer.instance is not None
    assert find_model(registered, uri).model.sees_colors


def test_the_registered_model_takes_instances_and_answers_as_the_library_does(
    registered: str, uri: str, colorizer: PictureColorizer, picture: bytes
) -> None:
    model = load_registered(registered, uri)
    answer = model.predict(pd.DataFrame({"picture": [picture]}), {"instances": BOX})
    (expected,) = colorize_bytes(colorizer, picture, parse_flat({"instances": BOX}))
    assert answer["picture"][0] == expected
    alone = model.predict(pd.DataFrame({"picture": [picture]}))
    assert alone["picture"][0] != expected
    outside = json.dumps([{"bbox": [900, 0, 70, 80]}])
    refused = model.predict(pd.DataFrame({"picture": [picture]}), {"instances": outside})
    assert "row 0: an instance at 900, 0, 70, 80 lies outside" in refused["error"][0]
    with pytest.raises(MlflowException, match="instances, line 1"):
        model.predict(pd.DataFrame({"picture": [picture]}), {"instances": "dog"})


@pytest.mark.parametrize(
    ("words", "scene", "said"),
    [
        ((), "scene", "--out or --register"),
        (("--out", "x", "--champion"), "scene", "give --register"),
        (("--register", NAME), "nowhere", "there is no such folder"),
        (("--register", NAME), "instance", "no scene model"),
        (("--out", "instance"), "scene", "not empty"),
    ],
)
def test_what_cannot_be_a_pair_is_refused(
    folder: Path, uri: str, capsys: pytest.CaptureFixture[str], monkeypatch, words, scene, said
) -> None:
    monkeypatch.chdir(folder)
    assert run(folder, uri, *words, scene=scene) == 2
    assert said in capsys.readouterr().err


def test_a_pair_can_be_made_anew_of_a_registered_one(
    registered: str, folder: Path, uri: str, colorizer: PictureColorizer, tmp_path: Path
) -> None:
    again = make_pair(Pair(str(folder / "instance"), registered), uri, tmp_path / "again")
    assert load_colorizer(again).digest == colorizer.digest
