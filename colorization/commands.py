"""What the command line does, in a function each; they return exit statuses."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from rich.text import Text

from colorization import config
from colorization.config import ConfigError
from colorization.data import open_data
from colorization.distributed import current_ranks, process_group
from colorization.evaluation import Evaluation
from colorization.experiment import Experiment, check, read_experiment
from colorization.export import load_run
from colorization.inference import PictureColorizer, colorize_files
from colorization.pictures import UnreadablePicture
from colorization.training import Report, fit

console = Console(highlight=False, soft_wrap=True)


def train(recipe_or_file: str, settings: Sequence[str], run: Path | None) -> int:
    """Train an experiment in this process, or as one rank under torchrun."""
    experiment = read_experiment(recipe_or_file, settings)
    run = run or Path("runs", "plain", f"{Path(recipe_or_file).stem}-{experiment.hash}")
    with process_group():
        first = current_ranks().first
        if first:
            parameters = check(experiment)
            sizes = ", ".join(f"{player} {count:,}" for player, count in parameters.items())
            console.print(f"{experiment.model.name} in {run}: parameters: {sizes}")
        fit(experiment, run, report=_print_epoch if first else None)
        if first:
            console.print(f"done: {run}")
            console.print(f"next: python -m colorization colorize {run} PICTURE_OR_FOLDER -o OUT")
    return 0


def _print_epoch(report: Report) -> None:
    if report.epoch == 1:
        gray = {name: report.gray[name] for name in ("ab_mae", "ab_jsd", "psnr")}
        console.print(f"leave-gray: {_numbers(gray)}")
    metrics = report.metrics
    shown = {key: metrics[key] for key in ("against_gray", "ab_mae", "ab_jsd", "psnr", "seconds")}
    console.print(f"epoch {report.epoch} ({report.stage}): {_numbers(shown)}")


def _numbers(values: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in values.items())


def evaluate(run: Path, settings: Sequence[str], split: str) -> int:
    """Score a run's best checkpoint on its validation or test pictures, or on others."""
    model, trained = load_run(run, _device())
    data = config.override(config.dump(trained), config.parse_overrides(settings))
    experiment = config.parse(Experiment, data)
    if experiment.model != trained.model:
        raise ConfigError("a trained model's settings cannot change; data.* and train.* may")
    sets = open_data(experiment.data)
    pictures = sets.test if split == "test" else sets.validation
    evaluation = Evaluation(experiment, pictures, current_ranks(), perceptual=True)
    gray = evaluation.leave_gray()
    scores = evaluation.scores(model, gray)
    table = Table(title=f"{run}, {split}: {sets.description}")
    table.add_column("score")
    table.add_column("model", justify="right")
    table.add_column("leave-gray", justify="right")
    for name, value in scores.items():
        table.add_row(name, f"{value:.4f}", f"{gray[name]:.4f}" if name in gray else "")
    console.print(table)
    return 0


def colorize(run: Path, pictures: Path, out: Path) -> int:
    """Colorize a picture or all pictures of a folder; 1 where some could not be."""
    model, experiment = load_run(run, _device())
    colorizer = PictureColorizer(model, experiment.data.size, _device())

    def say(source: Path, result: Path | UnreadablePicture) -> None:
        if isinstance(result, UnreadablePicture):
            console.print(Text(f"left out: {result}", style="red"))
        else:
            console.print(f"{source} -> {result}", markup=False)

    summary = colorize_files(colorizer, pictures, out, say)
    console.print(f"{len(summary.done)} colorized, {len(summary.failed)} left out")
    return 1 if summary.failed else 0


def show(recipe_or_file: str, settings: Sequence[str]) -> int:
    """Print the resolved experiment, the parameters of its players and what may be set."""
    experiment = read_experiment(recipe_or_file, settings)
    console.print(config.to_yaml(config.dump(experiment)), markup=False)
    table = Table(title="what may be set: key=value", show_lines=False)
    for heading in ("key", "value", "allowed", ""):
        table.add_column(heading, overflow="fold")
    for key, value, allowed, description in config.settings(experiment):
        table.add_row(*map(Text, (key, str(value), allowed, description)))
    console.print(table)
    for player, count in check(experiment).items():
        console.print(f"{player}: {count:,} parameters")
    console.print(f"experiment {experiment.hash}")
    return 0


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
