"""From finished trials to the winner in the registry, and to what the person types next."""

import json
import logging
import shlex
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from optuna.trial import TrialState

from chosen import Chosen, chosen
from colorization import config
from colorization.config import ConfigError
from colorization.data import PictureSets
from colorization.distributed import current_ranks
from colorization.evaluation import Evaluation
from colorization.experiment import Experiment
from colorization.export import export, load_run
from console import Ranked, StudyConsole
from finals import finalists
from finals_table import finals_table
from mlflow_store import without_password
from next_steps import next_commands
from promotion import Scoring, promote
from registry import find_version, register, rescore
from storage import short_path, storage_folder, trial_folder
from study import Study
from study_record import StudyRecord
from tracking import Tracker
from winner import candidates, pareto_front

if TYPE_CHECKING:
    from study_job import Job

log = logging.getLogger(__name__)


def hand_over(
    job: "Job", study: Study, tracker: Tracker, console: StudyConsole, sets: PictureSets
) -> bool:
    """Choose the winner, write `best.yaml`, register its model, show the ranking.

    Returns whether there is a winner and it was registered; the console says why not.
    """
    choice = chosen(study)
    if choice is None:
        console.message("no trial came so far that it could be chosen")
        return False
    best = choice.run
    experiment = study.experiment(best)
    if study.trial(best).state != TrialState.COMPLETE:
        console.message(
            "no trial was trained to its end: the winner is the best epoch of those stopped"
        )
        run = trial_folder(job.folder, best)
        export(run, run / "model")
    best_file = job.folder / "best.yaml"
    best_file.write_text(_best_yaml(job, choice, experiment), encoding="utf-8")
    tracker.file(None, best_file, "")
    before = study.choice
    if before.get("run") != best:
        study.choice = choice.record()
    version = None
    try:
        tested = _tested(study, best) or _test(job, best, experiment, sets)
        version = _register(job, study, tracker, console, best, experiment, sets, tested)
        test, test_gray = tested
        study.choice = choice.record(version=version, test=test, test_gray=test_gray)
    # Clients and servers of registries raise what they like. Nothing is lost: the winner lies on
    # disk, and the same command tries again.
    except Exception as error:
        details = job.folder / "registering-failed.txt"
        trace = without_password("".join(traceback.format_exception(error)))
        details.write_text(trace, encoding="utf-8")
        told = without_password(f"{type(error).__name__}: {error}")
        console.message(
            f"registering failed ({told}; all of it in {details}); "
            f"--name {job.name} --resume tries again"
        )
    record = _report(job, tracker, console, sets)
    final = finalists(study)
    console.finish(
        _ranked(study, choice.winner),
        study.parameters(best),
        next_commands(record) if record else [],
        why=choice.why,
        finalists=finals_table(study, final) if final else None,
    )
    return version is not None


def _report(
    job: "Job", tracker: Tracker, console: StudyConsole, sets: PictureSets
) -> StudyRecord | None:
    """Write the study's report and its description in MLflow, which nothing else hangs on.

    Returns the study as it was read, None where that failed.
    """
    record = None
    # Plots, pictures and models meet here, and any may raise; what was found is safe by now.
    try:
        from report_page import REPORT, write_report
        from study_description import describe_study

        record, page = StudyRecord.open(job.storage, job.name), job.folder / REPORT
        described = describe_study(record, sets.measures_generalization)
        tracker.parent({}, {"mlflow.note.content": described})
        size = write_report(record, page)
        tracker.file(None, page, "")
        console.message(f"report: {short_path(page)} ({size / 1e6:.1f} MB)")
    except Exception as error:
        script = Path(__file__).with_name("report.py")
        words = [short_path(Path(sys.executable)), short_path(script), job.name]
        words += ["--storage", str(job.storage)] if job.storage != storage_folder(None) else []
        told = without_password(f"{type(error).__name__}: {error}")
        log.debug("no report", exc_info=error)
        console.message(
            f"no report was written ({told}); the study is complete without it, and this tries "
            f"again: {shlex.join(words)}"
        )
    return record


def _ranked(study: Study, winner: int) -> list[Ranked]:
    """Return the lines of the ranking: the search's trials by their own scores, and leave-gray."""
    objective, finished = study.objective, candidates(study)
    front = {candidate.number for candidate in pareto_front(finished, list(objective.values()))}
    gray = {name: study.gray[name] for name in objective if name in study.gray}
    return [
        Ranked(None, 1.0, gray),
        *(
            Ranked(
                candidate.number,
                (study.selected_scores(candidate.number) or {})["against_gray"],
                dict(zip(objective, candidate.values, strict=True)),
                on_front=candidate.number in front,
                winner=candidate.number == winner,
            )
            for candidate in finished
        ),
    ]


def _best_yaml(job: "Job", choice: Chosen, experiment: Experiment) -> str:
    """Write the winner's experiment so that train.py takes it as it is."""
    run = f" (its run {choice.run})" if choice.run != choice.winner else ""
    head = f"# The winner of study {job.name}: trial {choice.winner}{run}.\n"
    return head + config.to_yaml({"experiment": config.dump(experiment)})


def _tested(study: Study, number: int) -> tuple[dict[str, float], dict[str, float]] | None:
    """Return the test scores of a run, and leave-gray's, where they were measured before."""
    known = study.choice
    if known.get("run") != number or not known.get("test"):
        return None
    return known["test"], known["test_gray"]


def _test(
    job: "Job", number: int, experiment: Experiment, sets: PictureSets
) -> tuple[dict[str, float], dict[str, float]]:
    """Score a run on the test pictures, which no trial has read; return leave-gray's, too."""
    ranks = current_ranks()
    model, _ = load_run(trial_folder(job.folder, number), ranks.device)
    test = Evaluation(experiment, sets.test, ranks, perceptual=True)
    gray = test.leave_gray()
    return test.scores(model, gray), gray


def _register(
    job: "Job",
    study: Study,
    tracker: Tracker,
    console: StudyConsole,
    number: int,
    experiment: Experiment,
    sets: PictureSets,
    tested: tuple[dict[str, float], dict[str, float]],
) -> str:
    """Register a trial's model with its test scores and leave-gray's; return the version."""
    folder = trial_folder(job.folder, number)
    scores = study.selected_scores(number)
    assert scores is not None  # a complete trial has scored epochs
    test_scores, test_gray = tested
    name = f"colorizer-{job.family}"
    tags = {
        "study": job.name,
        "trial": str(number),
        "experiment": experiment.hash,
        "data": json.dumps(config.dump(experiment.data.source)),
        "data.hash": sets.fingerprint,
        "measures_generalization": str(sets.measures_generalization).lower(),
    }
    version = find_version(tracker.tracking_uri, name, tags) or register(
        folder,
        model_name=name,
        tracking_uri=tracker.tracking_uri,
        run_id=_run_id(tracker, number),
        scores=scores,
        test_scores=test_scores,
        gray=study.gray,
        test_gray=test_gray,
        data_description=sets.description,
        tags=tags,
        searched=study.parameters(number),
    )
    scoring = Scoring(
        lambda loaded: rescore(loaded, experiment, sets.test), sets.fingerprint, "test"
    )
    decision = promote(
        name,
        version,
        job.promotion,
        scoring,
        tracking_uri=tracker.tracking_uri,
        margin=job.space.search.promotion_margin,
        say=console.message,
    )
    alias = "is the champion" if decision.promoted else "is not the champion"
    console.message(f"{name} version {version} {alias}: on the test pictures, {decision.reason}")
    tracker.parent_metrics({f"test/{key}": value for key, value in test_scores.items()})
    return version


def _run_id(tracker: Tracker, number: int, patience: float = 60.0) -> str:
    """Wait until MLflow has the trial's run, which the tracker's thread opens."""
    deadline = time.monotonic() + patience
    while (run_id := tracker.run_id(number)) is None:
        if time.monotonic() > deadline:
            where = without_password(tracker.tracking_uri)
            raise ConfigError(f"MLflow at {where} has no run of trial {number} yet")
        time.sleep(0.1)
    return run_id
