"""A pair of models in MLflow's registry: an instance model and a scene model as one version."""

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from champion import ALIAS, Champion
from mlflow_store import experiment_id, prepare, without_password
from registry import (
    CHECKPOINT,
    ensure_registered_model,
    filters,
    link_version,
    log_model,
    tracking_store,
)

# isort: split
from mlflow import MlflowClient

from colorization import checkpoint
from colorization.export import load_exported, trained_on
from colorization.pair import INSTANCE, export_pair
from colorization.training import read_history
from stored_models import exported_model

_SCORES = ("against_gray", "ab_mae", "ab_jsd")


@dataclass(frozen=True)
class Pair:
    """The words that name an instance model and a scene model."""

    instance: str
    scene: str


def make_pair(pair: Pair, tracking_uri: str, out: Path) -> Path:
    """Put the two models into the folder `out`; return it.

    Raises ConfigError as `exported_model` and `export_pair` do, CheckpointError for damage.
    """
    with tempfile.TemporaryDirectory() as place:
        instance = exported_model(pair.instance, tracking_uri, Path(place) / "a")
        scene = exported_model(pair.scene, tracking_uri, Path(place) / "b")
        return export_pair(instance, scene, out)


def register_pair(
    folder: Path, pair: Pair, *, model_name: str, tracking_uri: str, champion: bool
) -> str:
    """Make a pair's folder a new version of a registered model; return the version.

    The version bears what the pair was made of, the scene model's validation scores where its run
    is at hand, and the hash of its data. With `champion` the alias moves to it. Raises
    MlflowException.
    """
    prepare(tracking_uri)
    client = MlflowClient(tracking_uri)
    _, experiment = load_exported(folder)
    scores = _scores(Path(pair.scene).expanduser())
    tags = {
        **{f"validation.{name}": f"{value:.6g}" for name, value in scores.items()},
        **filters(experiment),
        "pair.instance": pair.instance,
        "pair.scene": pair.scene,
    }
    for name, place in (("data.hash", folder), ("pair.instance.data.hash", folder / INSTANCE)):
        if known := trained_on(place).get(""):
            tags[name] = known
    with tracking_store(tracking_uri):
        place = experiment_id(client, tracking_uri, model_name)
        run_id = client.create_run(place, run_name="pair").info.run_id
        client.set_terminated(run_id)
        with tempfile.TemporaryDirectory() as holder:
            copied = shutil.copytree(folder, Path(holder) / CHECKPOINT)  # its name is the model's
            model_uri, model_id = log_model(client, copied, run_id)
        ensure_registered_model(client, model_name, experiment.model.name, tracking_uri)
        created = client.create_model_version(
            model_name, source=model_uri, run_id=run_id, model_id=model_id, tags=tags
        )
        version = str(created.version)
        text = _describe(pair, model_name, version, experiment.data.size, tracking_uri)
        client.update_model_version(model_name, version, text)
        link_version(client, model_id, model_name, version)
    if champion:
        made = Champion(client, model_name)
        with made.turn() as turn:
            made.move(turn, version, "always", f"made of {pair.instance} and {pair.scene}")
    return version


def _scores(run: Path) -> dict[str, float]:
    """Return the validation scores of a run's best epoch; none of what is no run's directory."""
    if not run.is_dir() or checkpoint.latest(run) is None:
        return {}
    best = int(checkpoint.best(run).name.removeprefix("epoch-"))
    # A run that was killed between line and checkpoint has trained that epoch twice.
    line = [line for line in read_history(run) if line["epoch"] == best][-1]
    return {name: line[name] for name in _SCORES if name in line}


def _describe(pair: Pair, name: str, version: str, size: int, tracking_uri: str) -> str:
    return f"""\
A pair of models: `{pair.instance}` colors the things in a picture by themselves, `{pair.scene}` \
sees the picture at {size} x {size} pixels with these colors in it and colors the whole. The \
validation scores are the scene model's on pictures that were partly colored beforehand.

```sh
MLFLOW_TRACKING_URI={without_password(tracking_uri)} python ray_jobs/colorize.py \\
  --model models:/{name}/{version} photos colored --instances auto
```

Without `instances` the scene model colors alone; the param takes `auto` (Mask R-CNN looks) or a \
JSON list of `{{"label", "score", "bbox", "segmentation"}}` as in COCO. The alias `{ALIAS}` of a \
pair moves by `pair.py --champion` and by hand: the gate of `promote.py` scores pictures of which \
nobody says what is in them, by the scene model alone."""
