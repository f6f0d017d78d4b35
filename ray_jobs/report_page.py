"""What stands in a study's report: facts in the order of a person who has to choose."""

import json
import logging
import math
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from colorization.config import ConfigError, dump, to_yaml
from colorization.data import open_data
from colorization.experiment import outline
from colorization.score_names import PERCEPTUAL_SCORES, SAMPLE_SCORES, SCORES
from console import settings_text
from finals import finalists
from finals_table import spread, verdict
from next_steps import next_commands
from pages import plotly_script, write_page
from rank_agreement import LEAST_TRIALS, disagreement_note, rank_agreement
from side_by_side import Gallery
from study_costs import CostCounter
from study_pictures import study_gallery
from study_plots import curve_plots, search_plots
from study_record import StudyRecord, TrialRecord

REPORT = "report.html"
_BETTER = {"min": "less", "max": "more"}
_CHANNEL_SCORES = ("r2", "explained_variance", "mae", "median_ae", "mse")

log = logging.getLogger(__name__)


class Column(NamedTuple):
    """A model's scores beside others."""

    title: str
    scores: Mapping[str, float]


class DataFacts(NamedTuple):
    """What is known of the pictures of a study."""

    description: str
    measures_generalization: bool
    gallery: Gallery | None
    fault: str  # why there is no gallery


def write_report(study: StudyRecord, out: Path, price_per_hour: float | None = None) -> int:
    """Write a study's report as one file that loads nothing; return its size in bytes.

    Only reads the study. What a part of it lacks, pictures or models or scores, is said there.
    Raises OSError.
    """
    data = _data_facts(study)
    best, recipe = study.best, study.best_recipe
    search, curves = search_plots(study), curve_plots(study)
    counter = CostCounter(study, price_per_hour)
    costs = [{"number": trial.number, "costs": counter.of([trial])} for trial in study.everyone]
    spans = [row["costs"].spent for row in costs]
    rungs, rungs_note = _rungs(study)
    return write_page(
        out,
        "report.html",
        study=study,
        data=data,
        counts=_counts(study),
        written=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        winner_number=best.number if best else None,
        is_chosen=bool(study.choice),
        answer=_answer(study, data),
        ranking_note=_ranking_note(study),
        settings_text=settings_text,
        pictures=data.gallery,
        no_pictures=data.fault,
        stochastic=outline(study.typical).stochastic,
        finals=_finals(study),
        settings=_settings(study, best, recipe),
        settings_recipe=f"recipe {recipe.recipe}" if recipe and recipe is not best else "",
        best_yaml=_best_yaml(study, best),
        channels=_channels(study, best, recipe),
        sample_size=f"{best.scores.get('pictures', math.nan):.0f}" if best else "",
        search=search,
        curves=curves,
        has_plots=any(not plot.missing for group in (*search, curves) for plot in group.plots),
        plotly=plotly_script(),
        rungs=rungs,
        rungs_note=rungs_note,
        failed=[trial for trial in study.everyone if trial.state == "failed"],
        unfinished=[trial for trial in study.everyone if trial.state == "unfinished"],
        stopped=[trial for trial in study.everyone if trial.state == "stopped early"],
        total=counter.of(study.everyone),
        costs=costs,
        longest=max((spent.running + (spent.waiting or 0) for spent in spans), default=0),
        price_per_hour=price_per_hour,
        commands=next_commands(study),
        surroundings=_surroundings(study),
    )


def score_columns(study: StudyRecord) -> list[Column]:
    """Return the scores that belong beside each other: the winner's, leave-gray's, a recipe's."""
    best, recipe, registered = study.best, study.best_recipe, study.registered
    if best is None or registered is None:
        return []
    name = f"trial {best.number}"
    gray = {**study.gray, "against_gray": 1.0}
    over, winner_scores = compared_scores(study, best)
    columns = [Column(f"{name}{over}, validation", winner_scores), Column("leave-gray", gray)]
    if recipe and recipe.number != best.number:
        over, scores = compared_scores(study, recipe)
        columns.append(Column(f"recipe {recipe.recipe} (trial {recipe.number}){over}", scores))
    if registered.number != best.number:
        name += f" (its run {registered.number})"
    if test := study.choice.get("test"):
        columns.append(Column(f"{name}, test", test))
        test_gray = {**study.choice.get("test_gray", {}), "against_gray": 1.0}
        columns.append(Column("leave-gray, test", test_gray))
    return columns


def compared_scores(study: StudyRecord, trial: TrialRecord) -> tuple[str, Mapping[str, float]]:
    """Return the scores that a trial is compared by, and what they are, as a suffix for its name.

    The means over its seeds where it is a finalist: the best of several runs of one beside a single
    run of another would flatter it.
    """
    for finalist in study.finalists:
        if finalist.number == trial.number:
            return f", mean of {len(finalist.scores)} seeds", finalist.means
    return "", trial.scores


def sentence(study: StudyRecord) -> str:
    """Say in a sentence which trial is the best, and why."""
    best = study.best
    if best is None:
        return "No trial has a score yet."
    recipe = f", with the settings of the recipe {best.recipe}" if best.recipe else ""
    if not study.choice:
        end = "" if best.is_finished else " None was trained to its end yet."
        return (
            f"So far trial {best.number}{recipe} compares best with leaving the pictures gray: "
            f"against_gray {best.scores['against_gray']:.4f}. The winner is chosen at the end.{end}"
        )
    why = str(study.choice.get("why", "")).rstrip(".") or f"trial {best.number}"
    text = f"The winner: {why}."
    if best.recipe:
        text += f" It has the settings of the recipe {best.recipe}."
    if registered := study.choice.get("version"):
        text += f" Its model is colorizer-{study.family} version {registered} in MLflow's registry."
    return text


def cautions(study: StudyRecord, measures_generalization: bool) -> list[str]:
    """Return what a person should know before trusting the winner."""
    found = []
    best, registered, recipe = study.best, study.registered, study.best_recipe
    if best is None or registered is None:
        return found
    if not measures_generalization:
        found.append(
            "These pictures measure no generalization: training and scoring pictures come from "
            "the same scenes. The scores show that the machinery works, no more."
        )
    winner_scores = compared_scores(study, best)[1]
    for where, scores, gray in (
        ("validation", winner_scores, study.gray),
        ("test", study.choice.get("test", {}), study.choice.get("test_gray", {})),
    ):
        worse = [
            name
            for name, direction in study.objective.items()
            if name in scores and name in gray and not _is_better(scores, gray, name, direction)
        ]
        if worse:
            found.append(
                f"On the {where} pictures it is no better than leaving them gray in "
                f"{' and '.join(worse)}."
            )
    if recipe and recipe.number != best.number:
        worse = [
            name
            for name, direction in study.objective.items()
            if not _is_better(winner_scores, compared_scores(study, recipe)[1], name, direction)
        ]
        if worse:
            found.append(
                f"The recipe {recipe.recipe} (trial {recipe.number}) is as good or better in "
                f"{' and '.join(worse)}."
            )
    return found


def _is_better(
    scores: Mapping[str, float], others: Mapping[str, float], name: str, direction: str
) -> bool:
    ours, theirs = scores.get(name, math.nan), others.get(name, math.nan)
    return ours < theirs if direction == "min" else ours > theirs


def _data_facts(study: StudyRecord) -> DataFacts:
    """Open the study's pictures, for what they are and to be colored."""
    try:
        sets = open_data(study.typical.data)
    except (ConfigError, OSError) as error:
        return DataFacts("", True, None, f"the data cannot be opened here: {error}")
    before = study.past.attributes.get("data", {}).get("", sets.fingerprint)
    if before != sets.fingerprint:
        fault = f"the pictures have changed since: their hash was {before}, is {sets.fingerprint}"
        return DataFacts(sets.description, sets.measures_generalization, None, fault)
    facts = (sets.description, sets.measures_generalization)
    if not study.ranked:
        return DataFacts(*facts, None, "no trial has a score yet")
    return DataFacts(*facts, study_gallery(study, sets.validation), "")


def _counts(study: StudyRecord) -> str:
    states = Counter(trial.state for trial in study.trials)
    parts = ", ".join(f"{count} {state}" for state, count in states.items())
    again = len(study.everyone) - len(study.trials)
    finals = f"; {again} finalists' runs" if again else ""
    adopted = len(study.past.trials) - len(study.everyone)
    known = f"; {adopted} known from another study" if adopted else ""
    return f"{len(study.trials)} trials: {parts or 'none begun'}{finals}{known}"


def _answer(study: StudyRecord, data: DataFacts) -> dict[str, Any]:
    columns = score_columns(study)
    return {
        "sentence": sentence(study),
        "cautions": cautions(study, data.measures_generalization),
        "columns": columns,
        "rows": list(score_rows(columns)),
    }


def score_rows(columns: Sequence[Column]) -> Iterator[dict[str, Any]]:
    """Yield a row for each score; the best of validation and of test are marked apart."""
    known = SCORES | SAMPLE_SCORES | PERCEPTUAL_SCORES
    is_test = [column.title.endswith("test") for column in columns]
    for name, direction in known.items():
        values = [column.scores.get(name) for column in columns]
        if values and values[0] is not None and not name.startswith(("a_", "b_")):
            best = [_best_of(values, is_test, which, direction) for which in (False, True)]
            yield {
                "name": name,
                "better": _BETTER[direction],
                "cells": [
                    {"value": value, "is_best": value is not None and value == best[test]}
                    for value, test in zip(values, is_test, strict=True)
                ],
            }


def _best_of(
    values: Sequence[float | None], is_test: Sequence[bool], which: bool, direction: str
) -> float | None:
    found = [v for v, test in zip(values, is_test, strict=True) if v is not None and test is which]
    return (min if direction == "min" else max)(found, default=None)


def _ranking_note(study: StudyRecord) -> str:
    if study.choice.get("ranking"):
        rule = f"the rule “{study.choice.get('rule', 'knee')}”"
        if study.finalists:
            return (
                f"Finalists first, in the order of {rule} on the means over their seeds; the "
                "others by against_gray. The scores here are those of the search."
            )
        return f"In the order of {rule}, of the trials that were trained to their end."
    return "By against_gray, the best first."


def _settings(
    study: StudyRecord, best: TrialRecord | None, recipe: TrialRecord | None
) -> list[dict[str, Any]]:
    if best is None:
        return []
    searched = study.space.parameters()
    others = recipe.trial.params if recipe else {}
    return [
        {
            "name": name,
            "value": value,
            "recipe": others.get(name, "–"),
            "searched": str(searched.get(name, "")),
        }
        for name, value in best.trial.params.items()
        if value is not None
    ]


def _best_yaml(study: StudyRecord, best: TrialRecord | None) -> str:
    experiment = study.past.experiment(best.trial) if best else None
    return to_yaml({"experiment": dump(experiment)}) if experiment else ""


def _channels(
    study: StudyRecord, best: TrialRecord | None, recipe: TrialRecord | None
) -> list[dict[str, Any]]:
    """Return the rows of the published tables: R2 and errors of either channel."""
    if best is None or study.registered is None:
        return []
    over, scores = compared_scores(study, best)
    models = [(f"trial {best.number}{over}", scores), ("leave-gray", study.gray)]
    if recipe and recipe.number != best.number:
        over, scores = compared_scores(study, recipe)
        models.append((f"recipe {recipe.recipe}{over}", scores))
    return [
        {
            "model": model,
            "channel": channel,
            "is_gray": model == "leave-gray",
            "values": [scores.get(f"{channel}_{name}") for name in _CHANNEL_SCORES],
        }
        for model, scores in models
        for channel in "ab"
    ]


def _finals(study: StudyRecord) -> dict[str, Any] | None:
    """Return mean and deviation over seeds of those that were trained again; None where none."""
    found = finalists(study)
    if not found:
        return None
    names = list(dict.fromkeys(["against_gray", *study.objective]))
    rows = [
        {
            "number": finalist.number,
            "seeds": len(finalist.scores),
            "cells": [
                {"mean": finalist.mean(name), "text": spread(finalist, name)} for name in names
            ],
            "runs": ", ".join(f"{run} (seed {seed})" for seed, run in finalist.runs.items()),
            "verdict": verdict(study, found[0], finalist),
        }
        for finalist in found
    ]
    return {"names": names, "rows": rows}


def _rungs(study: StudyRecord) -> tuple[list[Any], str]:
    """Return the rank correlations of the rungs, and what to say of them."""
    metric = study.search.scheduler.metric
    epochs = {
        trial.number: {epoch: scores[metric] for epoch, scores in trial.curve.items()}
        for trial in study.trials
        if trial.is_finished
    }
    if len(epochs) < LEAST_TRIALS:
        return [], (
            f"{len(epochs)} trials were trained to their end; of fewer than {LEAST_TRIALS} a rank "
            "correlation says nothing."
        )
    rungs = study.search.scheduler.build().rungs(max(map(max, epochs.values())))
    found = rank_agreement(epochs, rungs)
    if not found:
        return [], "No trial is judged before its last epoch, or the scores do not differ."
    note = disagreement_note(epochs, rungs)
    return found, note or "The early scores did predict the final ranks."


def _surroundings(study: StudyRecord) -> list[tuple[str, str]]:
    """Return in what the study was begun, as MLflow was told; else what is here."""
    try:
        with (study.folder / "mlflow-queue.jsonl").open(encoding="utf-8") as file:
            for line in file:
                event = json.loads(line) if '"started"' in line and line.endswith("\n") else {}
                if event.get("kind") == "started" and event.get("number") is None:
                    return _readable(event.get("tags", {}))
    except (OSError, ValueError) as error:
        log.warning("what the study ran in cannot be read: %s", error)
    packages = ("torch", "torchvision", "ray", "optuna", "mlflow")
    return [(f"{package}, where this was written", version(package)) for package in packages]


def _readable(tags: Mapping[str, str]) -> list[tuple[str, str]]:
    names = {"mlflow.source.git.commit": "commit", "git.changed": "changed since the commit"}
    left_out = ("mlflow.", "colorization.")
    return [
        (names.get(key, key.removeprefix("version.")), str(value))
        for key, value in tags.items()
        if key in names or not key.startswith(left_out)
    ]
