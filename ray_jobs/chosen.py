"""What a study chooses in the end: on its finalists' means, else on its search's own scores."""

from typing import Any, NamedTuple

from finals import Finalist, as_candidate, finalists, inseparable
from study import Study
from winner import candidates, choose, ranking


class Chosen(NamedTuple):
    """The winner, and why."""

    rule: str
    winner: int  # the trial of the search
    run: int  # the trial whose model is registered: the same, or the best of its runs as a finalist
    why: str
    ranking: list[int]  # trials of the search, the best first

    def record(self, **more: Any) -> dict[str, Any]:
        """Return it as the study's attribute `choice`, with what became of it."""
        return {**self._asdict(), **more}


def chosen(study: Study) -> Chosen | None:
    """Choose by the study's rule; None where no trial came so far that it could be chosen."""
    rule = study.space.search.winner
    finished = candidates(study)
    if not finished:
        return None
    final = finalists(study)
    if not final:
        choice = choose(finished, study.objective, study.gray, rule)
        ordered = ranking(finished, study.objective, study.gray, rule)
        number = choice.winner.number
        return Chosen(rule, number, number, choice.why, [c.number for c in ordered])
    sound = [finalist for finalist in final if finalist.failed == final[0].failed]
    means = [as_candidate(study, finalist) for finalist in sound]
    seeds = len(final[0].scores)
    basis = f", by means over {seeds} seeds," if seeds > 1 else ", by one fresh seed,"
    why = choose(means, study.objective, study.gray, rule, basis).why
    order = [finalist.number for finalist in final]
    return Chosen(rule, final[0].number, final[0].best_run, why + _ties(study, final), order)


def _ties(study: Study, final: list[Finalist]) -> str:
    """Say which finalists could as well have won."""
    best, *others = final
    alike = [str(other.number) for other in others if inseparable(study, best, other)]
    if not alike:
        return ""
    return f"; it cannot be told apart from {'trial' if len(alike) == 1 else 'trials'} " + (
        ", ".join(alike)
    )
