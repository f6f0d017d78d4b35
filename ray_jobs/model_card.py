"""What MLflow's pages say of a registered model and of its versions, as Markdown."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from champion import ALIAS
from colorization import checkpoint, config
from colorization.evaluation import grid_path
from colorization.experiment import Experiment
from colorization.score_names import SCORES
from mlflow_store import without_password

LONGEST = 4900  # characters; databases hold 5000 of a description
_SHOWN = ("against_gray", "ab_mae", "ab_jsd", "ciede2000", "psnr", "ssim", "colorfulness_gap")
_TRAINING = ("batch_size", "learning_rate", "betas", "weight_decay", "ema", "precision", "seed")


def model_description(name: str, tracking_uri: str) -> str:
    """Describe a registered model: what it is, whose aliases mean what, how it is used."""
    return f"""\
**Colors gray photographs.** Encoded pictures of any size go in (column `picture`), colored ones of
the same size come out, with an `error` for each that cannot be read.

* The alias **`{ALIAS}`** is the version to use. It moves only to a version that was scored again
  beside it, by the same code on the same test pictures, and is better by a margin and beyond noise;
  a version's tags `promotion.*` say how it was decided.
* The tags `{ALIAS}.move.*` here are all its moves: when, from which version to which, why, by whom.
  `promote.py {name} --history` prints them, `promote.py {name} --rollback` goes back to the
  champion before.
* A version's tags `test.*`, `validation.*` and `gray.*` are its scores and those of leaving the
  pictures gray. `against_gray` is the mean share of gray's `ab_mae` and `ab_jsd` that is left:
  below 1 is better than gray.

{_use(f"models:/{name}@{ALIAS}", tracking_uri)}

Serve it:

```sh
MLFLOW_TRACKING_URI={shlex.quote(without_password(tracking_uri))} \\
  mlflow models serve -m models:/{name}@{ALIAS} --env-manager local --port 5001
python -c 'import base64, json; print(json.dumps({{"dataframe_split": {{"columns": ["picture"],
  "data": [[base64.b64encode(open("old.jpg", "rb").read()).decode()]]}}}}))' |
  curl -s -H "Content-Type: application/json" -d @- http://127.0.0.1:5001/invocations
```
"""


@dataclass(frozen=True)
class VersionCard:
    """What is told of a version; `describe` puts it into words."""

    run: Path
    scores: Mapping[str, float]
    test_scores: Mapping[str, float]
    gray: Mapping[str, float]
    test_gray: Mapping[str, float]
    data_description: str
    tags: Mapping[str, str]
    searched: Mapping[str, Any]  # settings that a search drew, by their dotted keys

    def describe(self, name: str, version: str, run_id: str, tracking_uri: str) -> str:
        """Return the version's description; the settings come last, as many as there is room."""
        experiment = checkpoint.read_run(self.run)
        parts = [
            f"Colors pictures of any size: `{experiment.model.name}`, trained at "
            f"{experiment.data.size} x {experiment.data.size} pixels.",
            self._score_table(),
            f"**Trained and scored on:** {self.data_description}",
            self._origin(run_id, experiment),
            self._picture(run_id),
            _use(f"models:/{name}/{version}", tracking_uri),
        ]
        text = "\n\n".join(part for part in parts if part)
        rows = [
            f"| {key} | {_code(value)} | {'searched' if key in self.searched else ''} |"
            for key, value in _settings(experiment, self.searched).items()
        ]
        table = ["", "", "| setting | value | |", "|---|---|---|"]
        left_out = "| ... | all of them are the run's parameters | |"
        room = LONGEST - len(text) - len("\n".join([*table, left_out])) - 2
        kept: list[str] = []
        for row in rows:
            room -= len(row) + 1
            if room < 0:
                kept.append(left_out)
                break
            kept.append(row)
        return (text + "\n".join([*table, *kept]))[:LONGEST]

    def _score_table(self) -> str:
        lines = [
            "| score | validation | leave-gray | test | leave-gray |",
            "|---|---:|---:|---:|---:|",
        ]
        columns = (self.scores, {"against_gray": 1.0, **self.gray})
        columns += (self.test_scores, {"against_gray": 1.0, **self.test_gray})
        for name in _SHOWN:
            if any(name in column for column in (self.scores, self.test_scores)):
                better = {"min": "less", "max": "more"}[SCORES[name]]
                cells = [f"{c[name]:.4f}" if name in c else "" for c in columns]
                lines.append(f"| `{name}` ({better} is better) | {' | '.join(cells)} |")
        return "\n".join(lines)

    def _origin(self, run_id: str, experiment: Experiment) -> str:
        words = [f"run `{run_id}`", f"experiment `{experiment.hash}`"]
        if "trial" in self.tags:
            words.insert(0, f"trial {self.tags['trial']}")
        if "study" in self.tags:
            words.insert(0, f"study `{self.tags['study']}`")
        return f"**From:** {', '.join(words)}"

    def _picture(self, run_id: str) -> str:
        """Show the best epoch's grid, which the trial's run has among its artifacts."""
        epoch = checkpoint.best(self.run).name
        if not grid_path(self.run, int(epoch.removeprefix("epoch-"))).exists():
            return ""
        address = f"get-artifact?path=pictures%2F{epoch}.png&run_uuid={run_id}"
        return f"Validation pictures (gray, predicted, true):\n\n![pictures]({address})"


def _settings(experiment: Experiment, searched: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was searched, then the model's settings and the main ones of training."""
    flat = config.flatten(config.dump(experiment))
    stages = {
        f"train.stages.{name}.{unit}": getattr(stage, unit)
        for name, stage in experiment.train.stages.items()
        for unit in ("epochs", "steps")
    }
    training = {key: flat.get(f"train.{key}") for key in _TRAINING}
    found = {
        **{key: flat.get(key, value) for key, value in searched.items()},
        **{key: value for key, value in flat.items() if key.startswith("model.")},
        **{f"train.{key}": value for key, value in training.items()},
        **stages,
    }
    return {key: value for key, value in found.items() if value is not None}


def _code(value: object) -> str:
    text = str(value).replace("|", "/")
    return f"`{text if len(text) <= 80 else text[:76] + ' ...'}`"


def _use(model_uri: str, tracking_uri: str) -> str:
    return f"""\
Load it:

```python
import mlflow, pandas, pathlib

mlflow.set_tracking_uri({without_password(tracking_uri)!r})
model = mlflow.pyfunc.load_model({model_uri!r})
answer = model.predict(pandas.DataFrame({{"picture": [pathlib.Path("old.jpg").read_bytes()]}}))
pathlib.Path("colored.jpg").write_bytes(answer["picture"][0])
```"""
