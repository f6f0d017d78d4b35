"""Models scored on the same pictures, wherever they are kept."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from browser import CHROMIUM, browser
from colorization.data import open_data
from colorization.distributed import current_ranks
from colorization.evaluation import Evaluation
from colorization.experiment import Experiment
from colorization.export import load_run
from colorization.training import fit
from compare import main
from planted_study import make_white_noise, write_model
from registry import register
from tracking import Tracker

# isort: split
from mlflow import MlflowClient

NAME = "colorizer-gan"


@pytest.fixture(scope="module")
def place(tmp_path_factory, new_store: Callable[[Path], str]) -> Path:
    storage = tmp_path_factory.mktemp("compare")
    new_store(storage)
    return storage


@pytest.fixture
def run(place: Path, tiny: Callable[..., Experiment]) -> Path:
    """A model of 32 pixels, trained for two epochs, once for all tests."""
    folder = place / "run"
    if not folder.exists():
        fit(tiny(), folder)
    return folder


def compare(place: Path, out: Path, *words: str) -> tuple[int, dict]:
    code = main([*words, "--storage", str(place), "-o", str(out / "c.html"), "--pictures", "2"])
    found = out / "c.json"
    return code, json.loads(found.read_text()) if found.exists() else {}


def test_scores_are_those_of_evaluate_and_leave_gray_stands_beside(place, run, tmp_path, capsys):
    code, found = compare(place, tmp_path, str(run))
    assert code == 0
    said = capsys.readouterr().out
    assert said.index("scoring leave-gray ...") < said.index(f"scoring {run} ...")
    assert said.index(f"scoring {run} ...") < said.index(f"{run}: against_gray")
    gray, model = found["models"]
    loaded, experiment = load_run(run)
    evaluation = Evaluation(experiment, open_data(experiment.data).test, current_ranks("cpu"))
    expected_gray = evaluation.leave_gray()
    expected = evaluation.scores(loaded, expected_gray)
    assert gray["label"] == "leave-gray"
    for name in ("against_gray", "ab_mae", "ab_jsd", "psnr", "a_r2"):
        assert model["scores"][name] == pytest.approx(expected[name], rel=1e-3)
    assert gray["scores"]["ab_mae"] == pytest.approx(expected_gray["ab_mae"])
    assert model["milliseconds"] > 0
    rows = csv.DictReader((tmp_path / "c.csv").read_text().splitlines())
    assert [row["model"] for row in rows] == ["leave-gray", str(run)]


def test_models_of_other_sizes_and_other_data_are_compared_with_a_warning(
    place, run, tiny, tmp_path, capsys
):
    write_model(tmp_path / "other", tiny("data.size=48"), data_hash="0123abcd")
    code, found = compare(place, tmp_path, str(run), str(tmp_path / "other"), "data.size=40")
    assert code == 0
    assert found["side"] == 40
    assert [model["size"] for model in found["models"]] == [None, 32, 48]
    assert "was trained on data with the hash 0123abcd" in capsys.readouterr().out


def test_a_model_that_fails_costs_itself_and_is_named(place, run, tiny, tmp_path):
    write_model(tmp_path / "broken", tiny())
    make_white_noise(tmp_path / "broken" / "model")
    words = [str(tmp_path / "broken"), str(tmp_path / "nowhere"), str(run), "models:/no-such/1"]
    code, found = compare(place, tmp_path, *words)
    assert code == 1
    assert [model["label"] for model in found["models"]] == ["leave-gray", str(run)]
    reasons = " ".join(found["failed"].values())
    assert "not finite" in reasons
    assert "there is no such folder" in reasons
    assert "no such model" in reasons


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["0" * 32], "has no run of this id"),
        (["models:/colorizer-gan"], "models:/NAME/VERSION or models:/NAME@ALIAS is needed"),
        (["somewhere", "model.lambda_l1=3"], "only data.* may be set"),
        (["data.size=64"], "RUN_OR_MODEL: found none"),
        (["/", "-o", "c.txt"], "a name that ends in .html is needed"),
    ],
)
def test_wrong_words_are_one_message(place, words, said, capsys):
    assert main([*words, "--storage", str(place)]) == 2
    assert said in capsys.readouterr().err


def test_runs_and_versions_of_mlflow_score_like_the_run_they_come_from(place, run, tmp_path):
    uri = f"sqlite:///{place}/mlflow.db"
    scores = {"ab_mae": 0.1}
    version = register(
        run,
        model_name=NAME,
        tracking_uri=uri,
        run_id=None,
        scores=scores,
        test_scores=scores,
        gray=scores,
        test_gray=scores,
        data_description="",
    )
    MlflowClient(uri).set_registered_model_alias(NAME, "champion", version)
    write_model(place / "studies" / "s" / "trial-0000", load_run(run)[1])
    with Tracker(place / "studies" / "s", uri, "colorization", "s") as tracker:
        tracker.parent({})
        tracker.trial_started(0, "trial-0000", {})
        tracker.file(0, place / "studies" / "s" / "trial-0000" / "model", "")
        tracker.trial_ended(0, "FINISHED")
    parent, trial = tracker.parent_run_id, tracker.run_id(0)
    assert parent
    assert trial
    shutil.rmtree(place / "studies")
    words = [str(run), f"models:/{NAME}/{version}", f"models:/{NAME}@champion", trial, parent]
    code, found = compare(place, tmp_path, *words)
    assert code == 1
    assert "is the run of the study s" in found["failed"][parent]
    labels = [model["label"] for model in found["models"]]
    assert labels[2:] == [f"{NAME} version 1", f"{NAME} version 1 (champion)", "s/trial-0000"]
    own, numbered, alias = (model["scores"]["ab_mae"] for model in found["models"][1:4])
    assert own == numbered == alias


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: the page is not looked at")
def test_the_page_shows_each_photograph_by_every_model_at_two_widths(place, run, tmp_path):
    compare(place, tmp_path, str(run), str(run))
    with browser() as shown:
        for width in (1400, 400):
            shown.open(tmp_path / "c.html", width)
            assert shown.evaluate("document.documentElement.scrollWidth <= innerWidth")
        loaded = "[...document.images].filter(image => image.naturalWidth).length"
        assert shown.evaluate(loaded) == 2 * 4  # gray, two models, truth
        assert shown.complaints == []
        assert {address.split(":")[0] for address in shown.requests} <= {"file", "data"}
