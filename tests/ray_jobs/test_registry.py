import base64
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image

from promotion import Decision, promote
from registry import find_version, load_registered, register, score_model

# isort: split
import mlflow
from mlflow import MlflowClient
from mlflow.pyfunc import PyFuncModel, scoring_server

from colorization.config import parse
from colorization.data import open_data
from colorization.experiment import Experiment
from colorization.training import fit

NAME = "colorizer-gan"

EXPERIMENT = """
data: {source: {name: sample, crops: 16, scoring_crops: 8}, size: 32}
model:
  name: gan
  generator: {name: unet, width: 4}
  discriminator: {name: patch, width: 4, layers: 1}
train:
  batch_size: 8
  learning_rate: 0.005
  ema: 0.9
  stages:
    adversarial: {turns: adversarial, epochs: 2}
"""


@dataclass(frozen=True)
class Trained:
    """A tiny model, really trained and registered once as version 1."""

    experiment: Experiment
    run: Path
    scores: dict[str, float]
    uri: str
    run_id: str
    folder: Path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, new_store: Callable[[Path], str]) -> Trained:
    folder = tmp_path_factory.mktemp("registry")
    experiment = parse(Experiment, yaml.safe_load(EXPERIMENT))
    outcome = fit(experiment, folder / "trial-0003", device="cpu")
    assert outcome.best_epoch is not None
    scores = outcome.history[outcome.best_epoch - 1]
    uri = new_store(folder / "store")
    client = MlflowClient(uri)
    artifacts = (folder / "store" / "mlartifacts").as_uri()
    run_id = client.create_run(client.create_experiment("gan", artifacts)).info.run_id
    client.set_terminated(run_id, "KILLED", end_time=1_700_000_000_000)
    before = dict(os.environ), list(sys.path), mlflow.is_tracking_uri_set()
    done = Trained(experiment, outcome.run, scores, uri, run_id, folder)
    assert register_again(done) == "1"
    assert (dict(os.environ), list(sys.path), mlflow.is_tracking_uri_set()) == before
    return done


def register_again(trained: Trained, run_id: str | None = None) -> str:
    names = ("ab_mae", "ab_jsd", "against_gray")
    scores = {name: trained.scores[name] for name in names}
    return register(
        trained.run,
        model_name=NAME,
        tracking_uri=trained.uri,
        run_id=run_id or trained.run_id,
        scores=scores,
        test_scores={"ab_mae": 0.125},
        gray={"ab_mae": 0.25},
        test_gray={"ab_mae": 0.5},
        data_description=open_data(trained.experiment.data).description,
        tags={"study": "gan-1"},
    )


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
    scores = score_model(
        load_registered(f"models:/{NAME}/1", trained.uri), trained.experiment, pictures
    )
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


def scored(by_version: Mapping[str, float]) -> Callable[[PyFuncModel], dict[str, float]]:
    """Score real loaded versions with planted numbers, told apart by a tag of their run."""

    def score(model: PyFuncModel) -> dict[str, float]:
        return {"against_gray": by_version[str(model.metadata.run_id)], "ab_mae": 0.1}

    return score


def decide(
    trained: Trained, policy: str, champion: float | None, challenger: float
) -> tuple[Decision, str | None, dict[str, str]]:
    """Register a champion and a challenger, decide; return also who is champion, and the tags."""
    client = MlflowClient(trained.uri)
    run_ids = [client.create_run("1").info.run_id for _ in range(2)]
    old, new = (register_again(trained, run_id) for run_id in run_ids)
    if client.get_registered_model(NAME).aliases:
        client.delete_registered_model_alias(NAME, "champion")
    if champion is not None:
        client.set_registered_model_alias(NAME, "champion", old)
    score = scored({run_ids[0]: champion or 0.0, run_ids[1]: challenger})
    decision = promote(NAME, new, policy, score, tracking_uri=trained.uri)  # type: ignore[arg-type]
    now = client.get_registered_model(NAME).aliases.get("champion")
    who = {old: "old", new: "new", "None": None}[str(now)]
    return decision, who, client.get_model_version(NAME, new).tags


@pytest.mark.parametrize(
    ("policy", "champion", "challenger", "who"),
    [
        ("if-better", None, 0.9, "new"),
        ("if-better", 0.8, 0.7, "new"),
        ("if-better", 0.8, 0.799, "old"),  # better by less than the margin of one percent
        ("if-better", 0.8, float("nan"), "old"),
        ("always", 0.8, 0.9, "new"),
        ("never", 0.8, 0.1, "old"),
        ("never", None, 0.1, None),
    ],
)
def test_the_alias_moves_by_the_policy_and_the_margin(trained, policy, champion, challenger, who):
    decision, now, tags = decide(trained, policy, champion, challenger)
    assert now == who
    assert decision.promoted == (who == "new")
    assert tags["promotion.decision"] == ("promoted" if who == "new" else "not promoted")
    assert tags["promotion.reason"] == decision.reason
    assert tags["promotion.policy"] == policy
    assert float(tags["promotion.challenger.against_gray"]) == pytest.approx(
        challenger, nan_ok=True
    )
    if champion is not None:
        assert float(tags["promotion.champion.against_gray"]) == champion


def test_a_champion_that_cannot_be_scored_is_replaced_and_the_reason_says_so(trained):
    client = MlflowClient(trained.uri)
    run_ids = [client.create_run("1").info.run_id for _ in range(2)]
    old, new = (register_again(trained, run_id) for run_id in run_ids)
    client.set_registered_model_alias(NAME, "champion", old)
    logged = str(client.get_model_version(NAME, old).source).removeprefix("models:/")
    (weights,) = (trained.folder / "store" / "mlartifacts").rglob(f"{logged}/**/weights.pt")
    weights.write_bytes(b"damaged")
    decision = promote(NAME, new, "if-better", scored({run_ids[1]: 0.9}), tracking_uri=trained.uri)
    assert decision.promoted
    assert decision.champion is None
    assert "weights.pt" in decision.reason
    assert client.get_registered_model(NAME).aliases["champion"] == int(new)


def test_the_champion_stays_when_it_is_judged_again(trained):
    run_id = MlflowClient(trained.uri).create_run("1").info.run_id
    version = register_again(trained, run_id)
    for _ in range(2):
        score = scored({run_id: 0.9})
        assert promote(NAME, version, "always", score, tracking_uri=trained.uri).promoted


@pytest.mark.parametrize(
    ("champions", "challengers", "told"),
    [
        ({"data": "photographs"}, {"data": "samples"}, "data photographs, here samples"),
        ({"data": "a"}, {"data": "b", "data.hash": "12"}, "data a, here b"),
        (
            {"data": "a", "data.hash": "12"},
            {"data": "a", "data.hash": "34"},
            "data.hash 12, here 34",
        ),
    ],
    ids=["other place", "champion without a hash", "other pictures in the same place"],
)
def test_a_better_challenger_of_other_data_does_not_move_the_champion(
    trained, champions, challengers, told
):
    decision = judge_data(trained, champions, challengers, "if-better")
    assert not decision.promoted
    assert f"trained on other data ({told})" in decision.reason


def test_the_same_pictures_in_another_place_or_the_policy_always_move_the_champion(trained):
    here, moved = {"data": "a", "data.hash": "12"}, {"data": "b", "data.hash": "12"}
    assert judge_data(trained, here, moved, "if-better").promoted
    assert judge_data(trained, {"data": "a"}, {"data": "b"}, "always").promoted


def judge_data(trained, champions: Mapping[str, str], challengers: Mapping[str, str], policy):
    """Decide about a challenger that is much better, with these tags on both versions."""
    client = MlflowClient(trained.uri)
    run_ids = [client.create_run("1").info.run_id for _ in range(2)]
    old, new = (register_again(trained, run_id) for run_id in run_ids)
    client.set_registered_model_alias(NAME, "champion", old)
    for version, tags in ((old, champions), (new, challengers)):
        for key, value in tags.items():
            client.set_model_version_tag(NAME, version, key, value)
    scores = scored({run_ids[0]: 0.9, run_ids[1]: 0.1})
    return promote(NAME, new, policy, scores, tracking_uri=trained.uri)


def test_a_registered_version_is_found_by_what_it_was_made_from(trained):
    version = register_again(trained, MlflowClient(trained.uri).create_run("1").info.run_id)
    assert find_version(trained.uri, NAME, {"study": "gan-1"}) is not None
    assert find_version(trained.uri, NAME, {"study": "gan-1", "trial": "3"}) is None
    MlflowClient(trained.uri).set_model_version_tag(NAME, version, "trial", "3")
    assert find_version(trained.uri, NAME, {"study": "gan-1", "trial": "3"}) == version
