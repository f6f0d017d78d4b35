"""What the command line does, in a function each; they return exit statuses."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from colorization import config
from colorization.config import ConfigError
from colorization.distributed import current_ranks
from colorization.experiment import Experiment, check, count_players, read_experiment

# Training and scores take seconds to import; a wrong setting is found without them.
if TYPE_CHECKING:
    from colorization.graph_export import GraphFormat
    from colorization.training import Report

console = Console(highlight=False, soft_wrap=True)


def train(recipe_or_file: str, settings: Sequence[str], run: Path | None) -> int:
    """Train an experiment in this process, or as one rank under torchrun."""
    experiment = read_experiment(recipe_or_file, settings)
    run = run or Path("runs", "plain", f"{Path(recipe_or_file).stem}-{experiment.hash}")
    parameters = check(experiment)
    from colorization.training import fit

    first = current_ranks().first
    if first:
        sizes = ", ".join(f"{player} {count:,}" for player, count in parameters.items())
        console.print(f"{experiment.model.name} in {run}: parameters: {sizes}", markup=False)
    fit(experiment, run, report=_print_epoch if first else None)
    if first:
        console.print(f"done: {run}", markup=False)
        command = f"python -m colorization colorize {shlex.quote(str(run))}"
        console.print(f"next: {command} PICTURE_OR_FOLDER -o OUT", markup=False)
    return 0


def _print_epoch(report: "Report") -> None:
    if report.epoch == 1:
        gray = {name: report.gray[name] for name in ("ab_mae", "ab_jsd", "psnr")}
        console.print(f"leave-gray: {_numbers(gray)}")
    metrics = report.metrics
    shown = {key: metrics[key] for key in ("against_gray", "ab_mae", "ab_jsd", "psnr", "seconds")}
    shown |= {"loading_share": metrics.get("train/loading_share", float("nan"))}
    console.print(f"epoch {report.epoch} ({report.stage}): {_numbers(shown)}")


def _numbers(values: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in values.items())


def evaluate(run: Path, settings: Sequence[str], split: str) -> int:
    """Score a run's best checkpoint on its validation or test pictures, or on others."""
    from colorization.export import load_model

    ranks = current_ranks()
    model, trained = load_model(run, ranks.device)
    data = config.override(config.dump(trained), config.parse_overrides(settings))
    experiment = config.parse(Experiment, data)
    if experiment.model != trained.model:
        raise ConfigError("a trained model's settings cannot change; data.* and train.* may")
    if model.fixed_size and experiment.data.size != trained.data.size:
        raise ConfigError(
            f"data.size: found {experiment.data.size}; this model takes pictures of its training "
            f"size alone, {trained.data.size}"
        )
    if size_left := experiment.data.size % model.multiple:
        nearest = experiment.data.size - size_left + model.multiple * (size_left > 0)
        raise ConfigError(
            f"data.size: found {experiment.data.size}; this model was trained at "
            f"{trained.data.size} and needs a multiple of {model.multiple}, e.g. {nearest}"
        )
    from colorization.data import open_data
    from colorization.evaluation import Evaluation

    sets = open_data(experiment.data)
    if ranks.first:
        _warn_of_other_data(run, sets.fingerprint, split)
    pictures = sets.test if split == "test" else sets.validation
    evaluation = Evaluation(experiment, pictures, ranks, perceptual=True)
    gray = evaluation.leave_gray()
    scores = evaluation.scores(model, gray)
    if not ranks.first:
        return 0
    table = Table(title=escape(f"{run}, {split}: {sets.description}"))
    table.add_column("score")
    table.add_column("model", justify="right")
    table.add_column("leave-gray", justify="right")
    for name, value in scores.items():
        table.add_row(name, f"{value:.4f}", f"{gray[name]:.4f}" if name in gray else "")
    console.print(table)
    return 0


def export_graph(run: Path, out: Path, kind: "GraphFormat") -> int:
    """Write what a model computes as a graph for other programs, compared with the model."""
    from colorization import graph_export
    from colorization.export import load_model

    graph_export.check_format(kind)
    if out.exists() and not out.is_dir():
        raise ConfigError(f"--out: {out} is a file, a folder is needed")
    model, experiment = load_model(run)
    made = graph_export.export_graph(model, experiment.data.size, out, kind)
    if made.dynamic:
        sides = f"any sides that are multiples of {model.multiple}"
    else:
        sides = f"{experiment.data.size} x {experiment.data.size} pixels alone"
    console.print(
        f"{made.file}: {made.file.stat().st_size / 1e6:.1f} MB; takes {sides}", markup=False
    )
    if made.static_because:
        console.print(Text(f"note: {made.static_because}", style="yellow"))
    console.print(
        f"differs from the model by {made.difference:.1g} of ab/110 at most; inputs and units: "
        f"{made.file.with_name(graph_export.DESCRIPTION)}",
        markup=False,
    )
    return 0


def show(recipe_or_file: str, settings: Sequence[str]) -> int:
    """Print the resolved experiment, the parameters of its players and what may be set.

    All of it together is a YAML file of the experiment: the rest is comments. Pretrained weights
    are not looked for.
    """
    experiment = read_experiment(recipe_or_file, settings)
    parameters = count_players(experiment)
    console.print(config.to_yaml(config.dump(experiment)), markup=False)
    table = Table(title="what may be set: key=value", title_justify="left", box=None)
    for heading in ("key", "value", "allowed", ""):
        table.add_column(heading, justify="left", no_wrap=True)
    for key, value, allowed, description in config.settings(experiment):
        table.add_row(*map(Text, (key, str(value), allowed, description)))
    comments = Console(file=console.file, width=1000, highlight=False)
    with comments.capture() as capture:
        comments.print(table)
        comments.print()
        for player, count in parameters.items():
            comments.print(f"{player}: {count:,} parameters")
        for weights in experiment.model.weights():
            comments.print(f"starts from torchvision's {type(weights).__name__}.{weights.name}")
        comments.print(f"experiment {experiment.hash}")
    for line in capture.get().splitlines():
        console.print(Text.from_ansi(f"# {line}".rstrip()))
    return 0


def _warn_of_other_data(run: Path, found: str, split: str) -> None:
    from colorization.export import trained_on

    trained = trained_on(run).get("", found)
    if trained != found:
        text = (
            f"warning: this data has the hash {found}, {run} was trained on {trained}: "
            f"{split} pictures may be among those it was trained on"
        )
        console.print(Text(text, style="yellow"))
