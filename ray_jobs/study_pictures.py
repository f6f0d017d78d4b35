"""The same validation pictures by the best trials of a study."""

from collections.abc import Iterable

import torch

from colorization.checkpoint import CheckpointError
from colorization.config import ConfigError
from colorization.data import PictureSet
from colorization.inference import PictureColorizer
from side_by_side import Gallery, SideBySide
from stored_models import load_model
from study_record import StudyRecord, TrialRecord

PICTURES = 5
BEST_TRIALS = 5


def study_gallery(study: StudyRecord, pictures: PictureSet) -> Gallery:
    """Let the best trials, the best recipe among them, color a few validation pictures.

    On the CPU: a study that runs needs the memory of its GPUs. A trial whose model is gone is
    named with the reason.
    """
    side_by_side = SideBySide(pictures, PICTURES, study.typical.data.size)
    side_by_side.add_gray()
    for trial in shown_trials(study):
        label = f"trial {trial.number}"
        try:
            stored = load_model(study.run_of(trial))
            colorizer = PictureColorizer(stored.model, stored.experiment.data.size)
            side_by_side.add_model(label, ", ".join(_notes(study, trial)), colorizer.one)
        except ConfigError:
            side_by_side.leave_out(
                label, "its checkpoints are gone (--keep-gb deletes those least needed)"
            )
        # Of the model, whose weights may be damaged or no numbers.
        except (CheckpointError, ValueError, RuntimeError, torch.OutOfMemoryError) as error:
            side_by_side.leave_out(label, f"{type(error).__name__}: {error}")
    side_by_side.add_truth()
    return side_by_side.gallery()


def shown_trials(study: StudyRecord) -> list[TrialRecord]:
    """Return the best trials, the winner first and the best recipe in any case."""
    first = [trial for trial in (study.registered,) if trial]
    # The winner's own run is not shown beside its better seed of the finals.
    chosen = {trial.number for trial in (study.best,) if trial and first}
    rest = [trial for trial in study.ranked if trial.number not in chosen]
    rest.sort(key=lambda trial: not trial.is_finished)
    shown = [*first, *rest][:BEST_TRIALS]
    recipe = study.best_recipe
    if recipe and recipe.number not in chosen and not _holds(shown, recipe):
        shown[BEST_TRIALS - 1 :] = [recipe]
    return shown


def _holds(trials: Iterable[TrialRecord], wanted: TrialRecord) -> bool:
    return any(trial.number == wanted.number for trial in trials)


def _notes(study: StudyRecord, trial: TrialRecord) -> list[str]:
    notes = []
    if study.registered and trial.number == study.registered.number:
        notes.append("winner" if study.choice else "best so far")
    if trial.recipe:
        notes.append(f"recipe {trial.recipe}")
    if not trial.is_finished:
        notes.append(trial.state)
    if trial.finalist_of is not None:
        notes.append(f"trial {trial.finalist_of} again, seed {trial.seed}")
    return notes
