"""A pair of untrained models, so small that they color in milliseconds."""

from pathlib import Path
from typing import Any

from colorization.checkpoint import save_tensors
from colorization.config import dump, parse, to_yaml
from colorization.experiment import Experiment, build_model
from colorization.export import EXPERIMENT, WEIGHTS
from colorization.pair import export_pair

TINY_FLOW: dict[str, Any] = {
    "name": "cinn",
    "condition": {"name": "convolutional", "widths": [4], "vector": 6},
    "flow": [
        {"couplings": 1, "hidden": 8},
        {"couplings": 1, "hidden": 8, "kernels": [1, 3], "keep": 2},
    ],
    "fully_connected": {"couplings": 1, "hidden": 8},
    "init_scale": 0.1,
}


def tiny_experiment(condition_on: str = "lightness", size: int = 32, seed: int = 0) -> Experiment:
    """Return an experiment of a flow that is conditioned on lightness or on Lab."""
    return parse(
        Experiment,
        {
            "data": {"source": {"name": "sample", "crops": 16, "scoring_crops": 8}, "size": size},
            "model": {**TINY_FLOW, "condition_on": condition_on},
            "train": {
                "batch_size": 8,
                "precision": "float32",
                "grid_pictures": 2,
                "seed": seed,
                "stages": {"likelihood": {"turns": "likelihood", "epochs": 1}},
            },
        },
    )


def export_untrained(experiment: Experiment, out: Path) -> Path:
    """Write what `export` writes of a run, of a model as it is built."""
    out.mkdir(parents=True)
    (out / EXPERIMENT).write_text(to_yaml(dump(experiment)), encoding="utf-8")
    weights = build_model(experiment).state_dict()
    save_tensors({"stage": "likelihood", "weights": weights, "data": {}}, out / WEIGHTS)
    return out


def untrained_pair(folder: Path) -> Path:
    """Return the folder of a pair: an instance model of 32 pixels, a scene model of 64."""
    instance = export_untrained(tiny_experiment(seed=1), folder / "instance-model")
    scene = export_untrained(tiny_experiment("lab", size=64), folder / "scene-model")
    return export_pair(instance, scene, folder / "pair")
