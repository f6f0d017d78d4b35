"""What a person is likely to want after a study, or in the middle of one, as commands to copy."""

import shlex
import sys
from pathlib import Path

from storage import short_path, storage_folder
from study_record import StudyRecord


def next_commands(study: StudyRecord) -> list[tuple[str, str]]:
    """Return what to do and the command that does it; paths as seen from here."""
    python, scripts = _short(Path(sys.executable)), Path(__file__).parent
    storage = "" if study.storage == storage_folder(None) else f" --storage {_short(study.storage)}"

    def script(name: str) -> str:
        return f"{python} {_short(scripts / name)}"

    commands = [("see the runs in MLflow", f"{script('ui.py')}{storage}")]
    if not study.choice:
        resume = f"{script('tune.py')} --name {study.name} --resume{storage}"
        commands.append(("go on with the study, if it was interrupted", resume))
    best, best_file = study.registered, study.folder / "best.yaml"
    if best:
        run = _short(study.run_of(best))
        commands.append(
            (
                "colorize pictures",
                f"{python} -m colorization colorize {run} PICTURE_OR_FOLDER -o colorized",
            )
        )
        others = [
            trial
            for trial in study.ranked
            if trial.number not in (best.number, best.finalist_of)
            and trial.state in ("finished", "stopped early")
        ][:2]
        runs = " ".join([run, *(_short(study.run_of(trial)) for trial in others)])
        if others:
            compare = f"{script('compare.py')} {runs}{storage}"
            commands.append(("compare the best on the test pictures", compare))
    if best and best_file.exists():
        experiment = study.past.experiment(best.trial)
        stages = experiment.train.stages if experiment else {}
        longer = " ".join(
            f"train.stages.{name}.epochs={10 * stage.epochs}"
            for name, stage in stages.items()
            if stage.select and stage.epochs
        )
        train = f"{script('train.py')} {_short(best_file)} {longer}{storage}"
        commands.append(("train the winner longer", train))
    return commands


def _short(path: Path) -> str:
    return shlex.quote(short_path(path))
