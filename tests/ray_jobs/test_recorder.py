"""What MLflow is told of a study's trials, from a real store."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from mlflow_store import EXPERIMENT

# isort: split
from mlflow import MlflowClient
from mlflow.entities import Run

from colorization.config import parse, read_yaml
from colorization.experiment import Experiment
from recorded import recorded_study, runs_of
from storage import trial_folder
from tiny_experiment import TINY

Make = Callable[..., Experiment]


@pytest.fixture(scope="module")
def store(
    tmp_path_factory: pytest.TempPathFactory, new_store: Callable[[Path], str]
) -> tuple[str, Path]:
    """A study of two trials, of which one was stopped early."""
    folder = tmp_path_factory.mktemp("recorder")
    uri = new_store(folder)
    experiment = parse(Experiment, yaml.safe_load(TINY))
    study = folder / "studies" / "small"
    with recorded_study(study, uri, experiment, trials=2) as recorded:
        recorded.train()
        recorded.train(stop_after=2)
    return uri, study


def artifacts(uri: str, run: Run, folder: str | None = None) -> set[str]:
    return {found.path for found in MlflowClient(uri).list_artifacts(run.info.run_id, folder)}


def test_names_begin_as_directories_and_tags_find_runs(store: tuple[str, Path]):
    uri, study = store
    runs = runs_of(uri)
    assert runs["0"].info.run_name == "trial-0000 gan unet patch lsgan"
    tags = runs["1"].data.tags
    expected = {
        "model": "gan",
        "generator": "unet",
        "discriminator": "patch",
        "adversarial": "lsgan",
        "study": "small",
        "trial": "1",
        "seed": "0",
        "state": "PRUNED",
        "stage": "adversarial",
        "device": "cpu",
        "ranks": "1",
        "directory": str(trial_folder(study, 1)),
    }
    assert {name: tags.get(name) for name in expected} == expected
    assert runs["study"].data.tags["state"] == "FINISHED"


def test_every_run_has_its_experiment_and_what_it_was_trained_in(store: tuple[str, Path]):
    uri, study = store
    runs = runs_of(uri)
    for number in ("0", "1"):
        assert "experiment.yaml" in artifacts(uri, runs[number])
        kept = artifacts(uri, runs[number], "provenance")
        assert {"epoch-00001.json", "epoch-00001.requirements.txt"} <= {
            path.removeprefix("provenance/") for path in kept
        }
    file = MlflowClient(uri).download_artifacts(
        runs["1"].info.run_id, "experiment.yaml", str(study.parent)
    )
    assert parse(Experiment, read_yaml(Path(file))).train.batch_size == 8


def test_the_studys_run_has_its_space_and_what_its_driver_ran_in(store: tuple[str, Path]):
    uri, study = store
    parent = runs_of(uri)["study"]
    assert "space.yaml" in artifacts(uri, parent)
    (kept,) = [path for path in artifacts(uri, parent, "provenance") if path.endswith(".json")]
    file = MlflowClient(uri).download_artifacts(parent.info.run_id, kept, str(study.parent))
    assert "torch" in json.loads(Path(file).read_text())["packages"]


def test_system_metrics_stand_under_the_names_of_mlflows_page(store: tuple[str, Path]):
    metrics = runs_of(store[0])["0"].data.metrics
    assert "system/cpu_utilization_percentage" in metrics
    assert "system/process_memory_usage_megabytes" in metrics


def test_the_experiment_explains_its_metrics_and_a_persons_words_stay(
    tmp_path: Path, new_store: Callable[[Path], str], tiny: Make
):
    uri = new_store(tmp_path)
    client = MlflowClient(uri)

    def note() -> str:
        found = client.get_experiment_by_name(EXPERIMENT)
        assert found is not None
        return found.tags["mlflow.note.content"]

    for name in ("first", "second"):
        with recorded_study(tmp_path / "studies" / name, uri, tiny()):
            pass
        if name == "first":
            assert "| `psnr` | dB | higher |" in note()
            found = client.get_experiment_by_name(EXPERIMENT)
            assert found is not None
            client.set_experiment_tag(found.experiment_id, "mlflow.note.content", "my own words")
    assert note() == "my own words"


def test_a_study_from_before_runs_had_surroundings_goes_on(
    tmp_path: Path, new_store: Callable[[Path], str], tiny: Make
):
    uri, folder = new_store(tmp_path), tmp_path / "studies" / "old"
    with recorded_study(folder, uri, tiny(), trials=2) as recorded:
        recorded.train()
    for path in (*folder.glob("trial-*/surroundings/*"), *folder.glob("surroundings/*")):
        path.unlink()
    (folder / "trial-0000" / "experiment.yaml").unlink()
    with recorded_study(folder, uri, tiny(), trials=2) as recorded:
        recorded.recorder.settle()
        recorded.train()
    runs = runs_of(uri)
    assert {runs[number].data.tags["state"] for number in "01"} == {"COMPLETE"}


def test_a_trial_that_went_on_elsewhere_has_the_surroundings_of_both_sessions(
    tmp_path: Path, new_store: Callable[[Path], str], tiny: Make
):
    uri, folder = new_store(tmp_path), tmp_path / "studies" / "two"
    with recorded_study(folder, uri, tiny()) as recorded:
        recorded.train(interrupt_after=2)
    assert runs_of(uri)["0"].data.tags["state"] == "interrupted"
    with recorded_study(folder, uri, tiny()) as recorded:
        recorded.train()
    run = runs_of(uri)["0"]
    kept = artifacts(uri, run, "provenance")
    assert {"provenance/epoch-00001.json", "provenance/epoch-00003.json"} <= kept
    assert run.data.tags["state"] == "COMPLETE"
