from pathlib import Path

import pytest
import torch

from colorization import checkpoint
from colorization.checkpoint import CheckpointError
from colorization.config import ConfigError
from colorization.data import open_data
from colorization.distributed import current_ranks
from colorization.evaluation import Evaluation
from colorization.experiment import Experiment, build_model
from colorization.export import export, load_exported, load_run
from colorization.training import fit
from tiny_colorizers import Partial, in_place_of_gan


def train(experiment: Experiment, run: Path) -> dict[str, float]:
    """Return the scores of the run's best epoch."""
    outcome = fit(experiment, run, device="cpu")
    assert outcome.best_epoch is not None
    return outcome.history[outcome.best_epoch - 1]


def save_untrained(experiment: Experiment, weights_of: Experiment, run: Path) -> dict[str, object]:
    model = build_model(weights_of)
    checkpoint.write_experiment(run, experiment)
    state = {
        "epoch": 1,
        "best_epoch": 1,
        "position": {"stage": 1, "stage_epoch": 0},
        "model": model.state_dict(),
        "averages": None,
    }
    checkpoint.save(run, state, keep=2)
    return dict(model.state_dict())


def test_an_exported_model_scores_what_the_best_epoch_of_its_run_did(tiny, tmp_path):
    experiment = tiny("train.ema=0.9", "train.learning_rate=0.005")
    best = train(experiment, tmp_path / "run")
    export(tmp_path / "run", tmp_path / "exported")
    for model, loaded in (load_run(tmp_path / "run"), load_exported(tmp_path / "exported")):
        assert loaded == experiment
        assert not model.training
        evaluation = Evaluation(loaded, open_data(loaded.data).validation, current_ranks("cpu"))
        scores = evaluation.scores(model, evaluation.leave_gray())
        for name in ("ab_mae", "ab_jsd", "psnr", "against_gray"):
            # Weights lie in memory otherwise than in training: a pixel may round to another level.
            assert scores[name] == pytest.approx(best[name], abs=1e-4)


def test_an_export_holds_no_optimizer_and_no_discriminator(tiny, tmp_path):
    train(tiny("train.ema=0.9"), tmp_path / "run")
    folder = export(tmp_path / "run", tmp_path / "exported")
    state = torch.load(folder / "weights.pt", weights_only=True)
    assert sorted(state) == ["data", "stage", "weights"]
    assert {key.split(".")[0] for key in state["weights"]} == {"generator"}
    model, _ = load_exported(folder)
    assert [name for name, _ in model.named_children()] == ["generator"]
    assert sorted(path.name for path in folder.iterdir()) == ["experiment.yaml", "weights.pt"]


def test_parts_of_a_player_that_only_training_needs_stay_behind(tiny, tmp_path):
    experiment = tiny("train.ema=0.9", stages={"a": {"turns": "adversarial", "epochs": 1}})
    lightness = torch.rand(2, 1, 32, 32) * 2 - 1
    with in_place_of_gan(Partial):
        train(experiment, tmp_path / "run")
        folder = export(tmp_path / "run", tmp_path / "exported")
        whole, _ = load_run(tmp_path / "run")
        exported, _ = load_exported(folder)
    weights = torch.load(folder / "weights.pt", weights_only=True)["weights"]
    assert whole.state_dict().keys() - weights.keys() == {
        "network.teach.weight",
        "network.teach.bias",
    }
    assert exported.state_dict().keys() == weights.keys()
    assert "network.teacher.weight" in weights  # whose name only begins like the part's
    with torch.no_grad():
        assert torch.equal(exported.colorize(lightness), whole.colorize(lightness))


def test_a_model_that_started_from_pretrained_weights_loads_without_them(
    tiny, tmp_path, monkeypatch
):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "empty"))
    generator = "model.generator={name: resnet_unet, width: 4"
    stages = {"l1": {"turns": "l1", "epochs": 1}}
    pretrained = tiny(generator + ", pretrained: true}", stages=stages)
    weights = save_untrained(pretrained, tiny(generator + "}", stages=stages), tmp_path / "run")
    model, experiment = load_exported(export(tmp_path / "run", tmp_path / "exported"))
    assert experiment == pretrained
    for key, value in model.state_dict().items():
        assert torch.equal(value, weights[key])  # type: ignore[arg-type]


@pytest.mark.parametrize("changed", ["first", "second"])
def test_a_model_is_built_as_the_stage_of_its_checkpoint_had_it(tiny, tmp_path, changed):
    stages = {
        "first": {"turns": "l1", "epochs": 1, "select": changed == "first"},
        "skipped": {"turns": "l1", "epochs": 0},
        "second": {"turns": "l1", "epochs": 1, "select": changed == "second"},
    }
    stages[changed]["change"] = {"model.learning_rate_ratio": 3.0}
    train(tiny(stages=stages), tmp_path / "run")
    model, _ = load_run(tmp_path / "run")
    assert model.learning_rate_ratio("discriminator") == 3.0
    state = torch.load(
        export(tmp_path / "run", tmp_path / "exported") / "weights.pt", weights_only=True
    )
    assert state["stage"] == changed


def test_a_folder_without_a_run_or_an_export_is_refused_by_name(tmp_path):
    with pytest.raises(ConfigError, match=str(tmp_path)):
        load_run(tmp_path)
    with pytest.raises(ConfigError, match=str(tmp_path)):
        load_exported(tmp_path)


def test_damaged_or_foreign_weights_are_refused_by_the_files_name(tiny, tmp_path):
    save_untrained(tiny(), tiny(), tmp_path / "run")
    file = export(tmp_path / "run", tmp_path / "exported") / "weights.pt"
    state = torch.load(file, weights_only=True)
    state["weights"].popitem()
    torch.save(state, file)
    with pytest.raises(CheckpointError, match=r"weights\.pt"):
        load_exported(file.parent)
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"weights\.pt"):
        load_exported(file.parent)
