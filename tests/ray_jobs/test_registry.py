import base64
import json
import os
import subprocess
import sys
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from registered_models import NAME, Trained, register_again, train
from registry import find_version, load_registered, rescore

# isort: split
import mlflow
from mlflow import MlflowClient, MlflowException
from mlflow.pyfunc import PyFuncModel, scoring_server

from colorization.color_flags import parse_flat
from colorization.data import open_data
from colorization.photographs import colorize_bytes


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, new_store: Callable[[Path], str]) -> Trained:
    done = train(tmp_path_factory.mktemp("registry"), new_store)
    before = dict(os.environ), list(sys.path), mlflow.is_tracking_uri_set()
    assert register_again(done) == "1"
    assert (dict(os.environ), list(sys.path), mlflow.is_tracking_uri_set()) == before
    return done


@pytest.fixture(scope="module")
def model(trained: Trained) -> PyFuncModel:
    return load_registered(f"models:/{NAME}/1", trained.uri)


def encode(rgb: np.ndarray, kind: str = "PNG") -> bytes:
    buffer = BytesIO()
    Image.fromarray(rgb).save(buffer, kind)
    return buffer.getvalue()


def ramp(height: int, width: int) -> np.ndarray:
    return np.tile(np.linspace(0, 255, width, dtype=np.uint8)[None, :, None], (height, 1, 3))


def test_scores_through_the_registry_equal_the_trials(trained):
    pictures = open_data(trained.experiment.data).validation
    loaded = load_registered(f"models:/{NAME}/1", trained.uri)
    scores = rescore(loaded, trained.experiment, pictures).scores
    assert len(scores) > 15
    for name, score in scores.items():
        assert score == pytest.approx(trained.scores[name], abs=1e-3), name


def test_a_version_says_what_it_scored_and_on_what(trained):
    version = MlflowClient(trained.uri).get_model_version(NAME, "1")
    assert float(version.tags["validation.ab_mae"]) == pytest.approx(
        trained.scores["ab_mae"], rel=1e-5
    )
    assert version.tags["test.ab_mae"] == "0.125"
    assert version.tags["gray.validation.ab_mae"] == "0.25"
    assert version.tags["gray.test.ab_mae"] == "0.5"
    assert version.tags["study"] == "gan-1"
    assert version.run_id == trained.run_id
    assert "measures no generalization" in str(version.description)


def test_registering_leaves_the_trials_run_as_it_ended(trained):
    info = MlflowClient(trained.uri).get_run(trained.run_id).info
    assert (info.status, info.end_time) == ("KILLED", 1_700_000_000_000)


def test_a_version_carries_its_code_and_nothing_that_only_training_needs(trained):
    (weights,) = (trained.folder / "store" / "mlartifacts").rglob("weights.pt")
    state = torch.load(weights, weights_only=True)
    assert all(key.startswith("generator.") for key in state["weights"])
    root = weights.parents[2]
    assert (root / "code" / "colorization" / "inference.py").exists()
    assert not list(root.rglob("*.pkl"))
    requirements = (root / "requirements.txt").read_text().splitlines()
    assert all("==" in line and "+" not in line for line in requirements)
    assert any(line.startswith("torch==") for line in requirements)


@pytest.mark.slow
def test_a_version_works_without_the_project_and_what_training_imports(trained, tmp_path):
    """In a process that has neither the checkout nor the packages of training and search."""
    (weights,) = (trained.folder / "store" / "mlartifacts").rglob("weights.pt")
    (tmp_path / "picture.png").write_bytes(encode(ramp(20, 30)))
    program = f"""
import sys
project = {str(Path(__file__).parents[2])!r}
sys.path[:] = [entry for entry in sys.path if entry not in ("", project)]
sys.meta_path[:] = [f for f in sys.meta_path if "editable" not in getattr(f, "__module__", "")]
for name in ("ray", "optuna", "torchmetrics", "skimage", "FrEIA", "rich", "torch_fidelity"):
    sys.modules[name] = None
import mlflow, pandas
model = mlflow.pyfunc.load_model({str(weights.parents[2])!r})
answer = model.predict(pandas.DataFrame({{"picture": [open("picture.png", "rb").read()]}}))
import colorization
assert colorization.__file__.startswith({str(weights.parents[2])!r}), colorization.__file__
assert answer["error"][0] is None, answer["error"][0]
open("colored.png", "wb").write(answer["picture"][0])
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert Image.open(tmp_path / "colored.png").size == (30, 20)


def test_pictures_come_back_in_their_size_and_format(model):
    table = pd.DataFrame(
        {"picture": [encode(ramp(41, 67)), encode(ramp(64, 33), "JPEG"), encode(ramp(9, 9), "BMP")]}
    )
    answer = model.predict(table)
    images = [Image.open(BytesIO(data)) for data in answer["picture"]]
    assert [image.size for image in images] == [(67, 41), (33, 64), (9, 9)]
    assert [image.format for image in images] == ["PNG", "JPEG", "PNG"]
    assert answer["error"].tolist() == [None, None, None]


def test_an_unreadable_picture_is_named_with_its_row_and_the_others_are_colored(model):
    table = pd.DataFrame({"picture": [encode(ramp(20, 20)), b"hello, I am no picture"]})
    answer = model.predict(table.set_index(pd.Index([7, 9])))
    assert answer.index.tolist() == [7, 9]
    assert answer["picture"][7] is not None
    assert answer["error"][7] is None
    assert answer["picture"][9] is None
    assert answer["error"][9].startswith("row 1: found text")


def test_params_are_the_options_of_coloring(model):
    data = encode(ramp(20, 30))
    table = pd.DataFrame({"picture": [data]})
    mask = encode(np.repeat(np.arange(30)[None, :, None] < 15, 3, 2).repeat(20, 0) * np.uint8(255))
    params = {"saturation": 2, "mask": base64.b64encode(mask).decode(), "invert": True}
    answer = model.predict(table, params=params)["picture"][0]
    assert answer != model.predict(table)["picture"][0]
    inner = model.unwrap_python_model()._colorizer
    options = parse_flat({"saturation": 2, "mask": mask, "invert": True})
    assert [answer] == colorize_bytes(inner, data, options)
    left = np.asarray(Image.open(BytesIO(answer)))[:, :14].astype(int)
    assert np.ptp(left, axis=2).max() <= 1


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"saturatoin": 2}, "params: unknown: 'saturatoin'; known are samples, temperature"),
        ({"saturation": 9}, "params: saturation: found 9"),
        ({"saturation": "much"}, "saturation"),
        ({"samples": 2}, "params: samples: found 2; this model draws nothing"),
        ({"foreground": "persn"}, "params: foreground: found 'persn'"),
        ({"mask": "AAAA"}, "params: mask: the mask: found"),
    ],
)
def test_a_param_that_is_unknown_or_wrong_is_an_error_that_names_it(model, params, message):
    with pytest.raises(MlflowException) as caught:
        model.predict(pd.DataFrame({"picture": [encode(ramp(9, 9))]}), params=params)
    assert message in str(caught.value)


def chunk(kind: bytes, content: bytes = b"") -> bytes:
    check = zlib.crc32(kind + content).to_bytes(4, "big")
    return len(content).to_bytes(4, "big") + kind + content + check


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(model):
    side = (12000).to_bytes(4, "big")
    header = chunk(b"IHDR", side + side + b"\x08\x02\x00\x00\x00")
    bomb = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT") + chunk(b"IEND")
    answer = model.predict(pd.DataFrame({"picture": [bomb, encode(ramp(9, 9))]}))
    assert "row 0: found 12000 x 12000 pixels; the registered model" in answer["error"][0]
    assert answer["error"][1] is None


def test_a_request_over_http_carries_base64_both_ways(model):
    picture = base64.b64encode(encode(ramp(20, 30))).decode()
    request = json.dumps(
        {"dataframe_split": {"columns": ["picture"], "data": [[picture], ["eA=="]]}}
    )
    answer = scoring_server.invocations(
        data=request,
        content_type="application/json",
        model=model,
        input_schema=model.metadata.get_input_schema(),
    )
    assert answer.status == 200, answer.response
    colored, refused = json.loads(answer.response)["predictions"]
    image = Image.open(BytesIO(base64.b64decode(colored["picture"])))
    assert image.size == (30, 20)
    assert refused["picture"] is None
    assert "row 1" in refused["error"]


def test_a_registered_version_is_found_by_what_it_was_made_from(trained):
    version = register_again(trained, MlflowClient(trained.uri).create_run("1").info.run_id)
    assert find_version(trained.uri, NAME, {"study": "gan-1"}) is not None
    assert find_version(trained.uri, NAME, {"study": "gan-1", "trial": "3"}) is None
    MlflowClient(trained.uri).set_model_version_tag(NAME, version, "trial", "3")
    assert find_version(trained.uri, NAME, {"study": "gan-1", "trial": "3"}) == version
