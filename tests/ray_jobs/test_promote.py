"""The command line: really trained models through the gate, back again, and wrong words."""

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from promote import main
from registered_models import NAME, Trained, bare_versions, champion_of, register_again, train

# isort: split
from mlflow import MlflowClient

from colorization.config import dump, override, parse, parse_overrides
from colorization.experiment import Experiment
from colorization.training import fit


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, new_store: Callable[[Path], str]) -> Trained:
    """Versions 1 and 2 are one model that was hardly trained, version 3 was trained longer."""
    folder = tmp_path_factory.mktemp("promote")
    short = train(folder, new_store, "data.source.scoring_crops=24")
    longer = override(
        dump(short.experiment), parse_overrides(["train.stages.adversarial.epochs=30"])
    )
    experiment = parse(Experiment, longer)
    outcome = fit(experiment, folder / "trial-0004", device="cpu")
    assert outcome.best_epoch is not None
    scores = outcome.history[outcome.best_epoch - 1]
    long = dataclasses.replace(short, experiment=experiment, run=outcome.run, scores=scores)
    for version in (short, short, long):
        register_again(version, **{"data.hash": "12ab"})
    return short


def run(trained: Trained, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    status = main([*words, "--tracking-uri", trained.uri])
    printed = capsys.readouterr()
    return status, printed.out + printed.err


@pytest.mark.slow
def test_a_worse_or_equal_version_is_refused_a_better_one_promoted_and_rolled_back(trained, capsys):
    """What a person types, one after another, on models that are scored through the registry."""
    client = MlflowClient(trained.uri)

    status, out = run(trained, capsys, NAME, "1")
    assert (status, champion_of(client)) == (0, "1"), out
    assert "no champion yet" in out

    status, out = run(trained, capsys, NAME, "2")
    assert (status, champion_of(client)) == (1, "1"), out
    assert re.search(r"better by 0.0% .* over 24 pictures\), so they cannot be told apart", out)

    status, out = run(trained, capsys, NAME, "3", "--policy", "never")
    assert (status, champion_of(client)) == (1, "1"), out

    status, out = run(trained, capsys, NAME, "3")
    assert (status, champion_of(client)) == (0, "3"), out
    assert re.search(r"better by \d+\.\d% \(95% interval \d+\.\d% to", out)

    status, out = run(trained, capsys, NAME, "1")
    assert (status, champion_of(client)) == (1, "3"), out
    assert re.search(r"worse by \d+\.\d% \(95% interval", out)

    assert run(trained, capsys, NAME, "--rollback", "--why", "too green")[0] == 0
    assert champion_of(client) == "1"
    status, out = run(trained, capsys, NAME, "--rollback")
    assert status == 2
    assert "nothing to go back to" in out

    status, out = run(trained, capsys, NAME, "--history")
    assert status == 0
    assert "too green" in " ".join(out.split())
    assert "the champion is version 1" in out


def test_other_pictures_are_warned_of(trained, capsys):
    words = ["1", "data.source.scoring_crops=8", "--policy", "never"]
    status, out = run(trained, capsys, NAME, *words)
    assert status == 1
    assert re.search(r"warning: this data has the hash \w+, version 1 was trained on 12ab", out)
    assert "8 test pictures" in out


@pytest.fixture
def bare(tmp_path: Path, new_store: Callable[[Path], str]) -> str:
    uri = new_store(tmp_path / "store")
    bare_versions(uri, 2)
    return uri


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "found nothing; give MODEL VERSION"),
        ([NAME], "found colorizer-gan; give MODEL VERSION"),
        ([NAME, "1", "--rollback"], "found colorizer-gan 1; give MODEL$"),
        ([NAME, "9"], "VERSION: found '9'; colorizer-gan has 1, 2"),
        ([NAME, "best"], "VERSION: found 'best'; colorizer-gan has 1, 2"),
        (["colorizer", "1"], "MODEL: found 'colorizer'; .* there is colorizer-gan"),
        ([NAME, "1", "--margin", "2"], "--margin: found 2"),
        ([NAME, "1", "model.lambda_l1=3"], "model.lambda_l1: a registered model cannot change"),
        ([NAME, "1"], "carries no experiment"),
        ([NAME, "--history", "--rollback"], "--history and --rollback: one of them"),
        ([NAME, "--rollback"], "nothing to go back to"),
    ],
)
def test_wrong_words_are_one_message_and_status_2(bare, capsys, words, told):
    assert main([*words, "--tracking-uri", bare]) == 2
    printed = capsys.readouterr()
    assert re.search(told, printed.err.strip())
    assert printed.out == ""


def test_a_place_that_is_no_store_is_refused(capsys):
    assert main([NAME, "--history", "--tracking-uri", "/data/mlruns"]) == 2
    assert "MLflow keeps no runs there" in capsys.readouterr().err
