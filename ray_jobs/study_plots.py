"""The plots of a report: Optuna's own of a study, and the scores of all trials by epoch."""

import json
import logging
import math
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import optuna
import plotly.graph_objects as go
from optuna import visualization
from optuna.exceptions import ExperimentalWarning
from optuna.trial import FrozenTrial, TrialState, create_trial

from study_record import StudyRecord, TrialRecord

_MOST_HOVER_TEXTS = 300  # trials, beyond which a point says its number and no more
_LEAST_TRIALS = 3  # of which importances are computed
_COLUMN = 150  # pixels a setting needs side by side with others
_MOST_NUMBERS = 60  # written beside points
_NUMBER = re.compile(r'"number": (\d+)')  # in Optuna's hover texts


Content = dict[str, Any]  # of a figure, as plotly.js takes it

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plot:
    """A figure, or why there is none."""

    title: str
    caption: str  # what it shows and of which trials
    figure: str = ""  # JSON for plotly.js
    missing: str = ""
    least_width: int = 0  # pixels, below which it is scrolled
    height: int = 420


@dataclass(frozen=True)
class PlotGroup:
    """Plots that answer one question."""

    title: str
    plots: list[Plot] = field(default_factory=list)


def search_plots(study: StudyRecord) -> list[PlotGroup]:
    """Draw Optuna's plots of the study's own trials, which keep their numbers.

    A plot that cannot be drawn says why.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # it tells of each copy and empty plot
    finished, all_scored = _copy(study, ended_only=True), _copy(study, ended_only=False)
    names = list(study.objective)
    groups = [
        PlotGroup("Optimization history", [_history(finished, study, i) for i in range(len(names))])
    ]
    groups.append(PlotGroup("Pareto front", [_front(finished, study)]))
    groups.append(PlotGroup("What mattered", [_importances(all_scored, study)]))
    groups.append(PlotGroup("Settings side by side", [_parallel(all_scored, study)]))
    groups.append(
        PlotGroup("Setting by setting", [_slices(all_scored, study, i) for i in range(len(names))])
    )
    return groups


def curve_plots(study: StudyRecord) -> PlotGroup:
    """Draw the scores of all trials by epoch: what trials are stopped by, and the objectives."""
    metric = study.search.scheduler.metric
    names = list(dict.fromkeys([metric, *study.objective]))
    return PlotGroup("Scores by epoch", [_curves(study, name) for name in names])


def _copy(study: StudyRecord, *, ended_only: bool) -> optuna.Study:
    """Copy the study into memory without trials adopted or trained again for the finals.

    Those leave an empty trial, so that the others keep their numbers. Where trials that were
    stopped early count, they do with the scores of their best epoch, as they do for the sampler.
    """
    copy = optuna.create_study(
        directions=[
            "minimize" if direction == "min" else "maximize"
            for direction in study.objective.values()
        ]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        copy.set_metric_names(list(study.objective))
    own = {trial.number: trial for trial in study.trials}
    for number in range(len(study.past.trials)):
        copy.add_trial(_counted(own.get(number), list(study.objective), ended_only))
    return copy


def _counted(trial: TrialRecord | None, names: list[str], ended_only: bool) -> FrozenTrial:
    if trial is None:
        return create_trial(state=TrialState.FAIL)
    values = None
    if trial.is_finished:
        values = list(trial.trial.values)
    elif not ended_only and trial.trial.state == TrialState.PRUNED:
        found = [trial.scores.get(name, math.nan) for name in names]
        values = found if all(map(math.isfinite, found)) else None
    if values is None:
        return create_trial(state=TrialState.FAIL)
    return create_trial(
        values=values, params=trial.trial.params, distributions=trial.trial.distributions
    )


def _complete(copy: optuna.Study) -> list[FrozenTrial]:
    return copy.get_trials(deepcopy=False, states=[TrialState.COMPLETE])


def _values(index: int) -> Callable[[FrozenTrial], float]:
    return lambda trial: trial.values[index]


def _history(copy: optuna.Study, study: StudyRecord, index: int) -> Plot:
    name = list(study.objective)[index]
    return _draw(
        name,
        f"{name} of the trials that were trained to their end, in the order they were drawn.",
        None if _complete(copy) else "no trial was trained to its end yet",
        lambda: _history_figure(copy, study, index),
    )


def _history_figure(copy: optuna.Study, study: StudyRecord, index: int) -> go.Figure:
    name, direction = list(study.objective.items())[index]
    figure = visualization.plot_optimization_history(copy, target=_values(index), target_name=name)
    # For one of several objectives Optuna draws no line of the best so far.
    if len(copy.directions) > 1:
        trials, best = _complete(copy), []
        for trial in trials:
            value = trial.values[index]
            ahead = min if direction == "min" else max
            best.append(ahead(best[-1], value) if best else value)
        numbers = [trial.number for trial in trials]
        figure.add_trace(
            go.Scatter(x=numbers, y=best, mode="lines", name="best so far", line={"shape": "hv"})
        )
    if len(study.trials) <= 12:
        figure.update_xaxes(dtick=1)
    return figure


def _front(copy: optuna.Study, study: StudyRecord) -> Plot:
    names = list(study.objective)
    missing = None
    if len(names) == 1:
        missing = f"there is one objective, {names[0]}, so that trials are in one order"
    elif len(names) > 3:
        missing = f"there are {len(names)} objectives; a plane or a room shows two or three"
    elif not _complete(copy):
        missing = "no trial was trained to its end yet"
    return _draw(
        " and ".join(names),
        "Each point is a trial that was trained to its end; no other is better in all objectives "
        "than those of the front. Hover or tap for its number and settings.",
        missing,
        lambda: visualization.plot_pareto_front(copy, target_names=names),
        adapt=_with_numbers,
    )


def _importances(copy: optuna.Study, study: StudyRecord) -> Plot:
    trials = _complete(copy)
    settings = {setting for trial in trials for setting in trial.params}
    missing = None
    if len(trials) < _LEAST_TRIALS:
        missing = f"{len(trials)} trials have scores; of fewer than {_LEAST_TRIALS} nothing is told"
    elif not settings:
        missing = "nothing was searched"
    elif all(len({trial.values[i] for trial in trials}) == 1 for i in range(len(study.objective))):
        missing = "all trials scored the same"
    unsure = " Of so few trials a rough guess." if len(trials) < 20 else ""
    return _draw(
        "share of what tells the best trials from the rest",
        f"PED-ANOVA over {len(trials)} trials (those stopped early by their best epoch).{unsure}",
        missing,
        lambda: visualization.plot_param_importances(copy),
        height=140 + 24 * len(settings),
    )


def _parallel(copy: optuna.Study, study: StudyRecord) -> Plot:
    trials, names = _complete(copy), list(study.objective)
    settings = sorted({setting for trial in trials for setting in trial.params})
    ranks = "colored by how many fronts lie before it; " if len(names) > 1 else ""
    return _draw(
        " and ".join(names),
        f"Each line is one of {len(trials)} trials (those stopped early by their best epoch), "
        f"{ranks}settings of branches that it did not take are None.",
        _nothing_to_compare(trials, settings),
        lambda: visualization.plot_parallel_coordinate(copy, target_name=names[0]),
        adapt=lambda content: _with_whole_names(content, [*names, *settings]),
        least_width=_COLUMN * (len(names) + len(settings)),
        height=460,
    )


def _slices(copy: optuna.Study, study: StudyRecord, index: int) -> Plot:
    trials, name = _complete(copy), list(study.objective)[index]
    settings = sorted({setting for trial in trials for setting in trial.params})
    return _draw(
        name,
        f"{name} over each setting, of {len(trials)} trials (those stopped early by their best "
        "epoch).",
        _nothing_to_compare(trials, settings),
        lambda: visualization.plot_slice(
            copy, params=settings, target=_values(index), target_name=name
        ),
        adapt=_with_broken_names,
        least_width=_COLUMN * max(2, len(settings)),
        height=460,
    )


def _with_numbers(content: Content) -> None:
    """Write their numbers beside the points of a front, in place of scales of colors."""
    for trace in content["data"]:
        trace["marker"]["showscale"] = False
        texts = trace.pop("text", None) or []
        found = [_NUMBER.search(text) for text in texts]
        trace |= {"hovertext": texts, "hovertemplate": "%{hovertext}<extra></extra>"}
        if trace["type"] == "scatter" and len(found) <= _MOST_NUMBERS:
            trace["text"] = [number[1] if number else "" for number in found]
            trace |= {"mode": "markers+text", "textposition": "top center"}


def _with_broken_names(content: Content) -> None:
    """Break the long names of settings below their axes into lines."""
    for key, axis in content["layout"].items():
        if key.startswith("xaxis") and "title" in axis:
            text = axis["title"]["text"].replace(".", ".<br>")
            axis["title"] = {"text": text, "font": {"size": 11}}


def _with_whole_names(content: Content, names: Sequence[str]) -> None:
    """Name axes in full, in lines, where Optuna cuts off the ends."""
    axis = content["layout"]["xaxis"]
    labels = axis["ticktext"]
    if [label.removesuffix("...") for label in labels] == [
        name[: len(label.removesuffix("..."))] for name, label in zip(names, labels, strict=True)
    ]:
        axis["ticktext"] = [name.replace(".", ".<br>") for name in names]
    axis["tickangle"] = 0


def _nothing_to_compare(trials: list[FrozenTrial], settings: list[str]) -> str | None:
    if len(trials) < 2:
        return f"{len(trials)} trials have scores; there is nothing to compare"
    return None if settings else "no setting was searched in every trial"


def _curves(study: StudyRecord, name: str) -> Plot:
    scored = [trial for trial in study.trials if _curve(trial, name)]
    return _draw(
        name,
        f"{name} of {len(scored)} trials after each epoch that selects; the line across is "
        "leave-gray's.",
        None if scored else "no epoch has been scored yet",
        lambda: _curves_figure(study, scored, name),
    )


def _curves_figure(study: StudyRecord, scored: list[TrialRecord], name: str) -> go.Figure:
    figure = go.Figure()
    best = study.best.number if study.best else None
    dashes = {"finished": "solid", "stopped early": "dot", "failed": "dash"}
    for trial in sorted(scored, key=lambda trial: trial.number == best):  # the winner on top
        curve = _curve(trial, name)
        mark = ", winner" if trial.number == best and study.choice else ""
        figure.add_trace(
            go.Scatter(
                x=list(curve),
                y=list(curve.values()),
                mode="lines+markers",
                name=f"trial {trial.number}{mark}",
                line={
                    "dash": dashes.get(trial.state, "dashdot"),
                    "width": 4 if trial.number == best else 1.5,
                },
                marker={"size": 5},
                hovertemplate=f"trial {trial.number} ({trial.state})<br>epoch %{{x}}: %{{y:.4f}}"
                "<extra></extra>",
            )
        )
    level = 1.0 if name == "against_gray" else study.gray.get(name)
    if level is not None:
        figure.add_hline(y=level, line={"dash": "longdash", "width": 1, "color": "gray"})
    figure.update_layout(xaxis_title="epoch that selects", yaxis_title=name)
    return figure


def _curve(trial: TrialRecord, name: str) -> Mapping[int, float]:
    found = {epoch: scores.get(name, math.nan) for epoch, scores in trial.curve.items()}
    return {epoch: value for epoch, value in found.items() if math.isfinite(value)}


def _draw(
    title: str,
    caption: str,
    missing: str | None,
    draw: Callable[[], go.Figure],
    *,
    adapt: Callable[[Content], None] = lambda content: None,
    least_width: int = 0,
    height: int = 420,
) -> Plot:
    """Draw a plot and change what is written of it, or say why it is missing."""
    if missing:
        return Plot(title, caption, missing=missing)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # experimental, constant, and so on: said in captions
            figure = draw()
        figure.update_layout(template="none", title=None, width=None, height=None)
        content: Content = json.loads(figure.to_json() or "{}")
        adapt(content)
    # Optuna and what it computes with raise what they like; the other plots are worth having.
    except Exception as error:
        log.warning("no plot of %s: %s", title, error)
        return Plot(title, caption, missing=f"{type(error).__name__}: {error}")
    _shorten(content)
    return Plot(title, caption, json.dumps(content, separators=(",", ":")), "", least_width, height)


def _shorten(content: Content) -> None:
    """Leave out the hover texts of many trials, all settings of each."""
    for trace in content["data"]:
        for key in ("text", "hovertext"):
            if isinstance(trace.get(key), list) and len(trace[key]) > _MOST_HOVER_TEXTS:
                del trace[key]
                trace.pop("hovertemplate", None)
