"""The gate before the alias `champion`: both models scored by the same code on the same data."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal, NamedTuple

from champion import Champion, Move
from mlflow_store import without_password
from out_of_memory import is_out_of_memory
from registry import Rescored, load_registered

# isort: split
from mlflow import MlflowClient, MlflowException
from mlflow.pyfunc import PyFuncModel

from colorization.code_version import code_version, installed
from colorization.config import ConfigError
from colorization.paired_scores import LEAST, Interval, compare, estimate

MARGIN = 0.01  # share of the champion's `against_gray` by which a challenger must be better

Policy = Literal["if-better", "always", "never"]
Score = Callable[[PyFuncModel], Rescored]

_TAGGED = ("against_gray", "ab_mae", "ab_jsd")
_LONGEST = 4500  # characters of a tag; older databases hold 5000
# What MLflow says where a model is not there, or not one that takes our pictures; and where the
# code that it was registered with fails here, which has the code of any internal error.
_OF_THE_MODEL = ("RESOURCE_DOES_NOT_EXIST", "NOT_FOUND", "INVALID_PARAMETER_VALUE")
_OF_ITS_CODE = ("Failed to run user code", "Failed to import code model")


class Scoring(NamedTuple):
    """How models are scored, and on which pictures."""

    score: Score  # of a loaded model; called on the challenger and on the champion of today
    data_hash: str  # of the data that the pictures are from
    split: str


@dataclass(frozen=True)
class Decision:
    """Whether a version is the champion now, why, and what both models scored."""

    promoted: bool
    reason: str
    challenger: Rescored
    champion: Rescored | None  # None: there was none, or it could not be scored
    champion_version: str | None  # before the decision
    difference: Interval | None  # of `against_gray`, challenger minus champion
    move: Move | None = None  # of the alias, where it moved


def promote(
    model_name: str,
    version: str,
    policy: Policy,
    scoring: Scoring,
    *,
    tracking_uri: str,
    margin: float = MARGIN,
    why: str = "",
    say: Callable[[str], None] = print,
) -> Decision:
    """Decide whether a version becomes the champion; move the alias; note it on the version.

    `if-better` promotes where the challenger's `against_gray` is below the champion's by the share
    `margin` and the 95% interval of their difference, over the pictures, excludes zero; or where
    there is no champion, or one that cannot be loaded and scored any more; never a challenger
    that is worse than gray pictures, nor one whose data (the tag `data.hash`, else `data`) are
    others than the champion's, whose scores would then be those of a stranger.

    Scoring takes minutes and locks nothing. Where somebody else is champion by the time of the
    decision, the challenger is judged again beside that one; the alias moves only in a turn of
    `champion.Champion`, which says what is guaranteed.

    Decision, reason, both models' scores, pictures and code become tags `promotion.*` of the
    version; a move, with the person's reason `why`, stands in the registered model's history.
    What made the champion so stays noted when it is judged again, and `never` notes nothing on a
    version that was decided about before.

    Raises what loading or scoring the challenger raises, and ConfigError where the champion cannot
    be scored for now (the store does not answer, the disk is full, memory is short): nothing moves.
    """
    client = MlflowClient(tracking_uri)
    champion = Champion(client, model_name, say)
    judge = _Judge(client, model_name, version, policy, scoring, margin, tracking_uri)
    decision = judge.decide(champion.version)
    while True:
        current = decision.champion_version
        if decision.promoted and current != version:
            with champion.turn() as turn:
                if turn.version == current:
                    told = f"{why}; {decision.reason}" if why else decision.reason
                    move = champion.move(turn, version, policy, told)
                    decision = replace(decision, move=move)
                    break
        elif champion.version == current:
            break
        say(f"{model_name} has another champion since version {version} was judged: once more")
        decision = judge.decide(champion.version)
    if _worth_noting(client, model_name, version, decision, policy):
        _note(client, model_name, version, _tags(decision, policy, margin, scoring))
    return decision


class _Judge:
    """Scores a challenger once, and each champion that it meets."""

    def __init__(
        self,
        client: MlflowClient,
        model_name: str,
        version: str,
        policy: Policy,
        scoring: Scoring,
        margin: float,
        tracking_uri: str,
    ) -> None:
        self._client, self._name, self._version = client, model_name, version
        self._policy, self._scoring, self._margin = policy, scoring, margin
        self._uri = tracking_uri
        self._challenger = self._score(version)
        self._champions: dict[str, Rescored | str] = {version: self._challenger}  # or its fault

    def decide(self, current: str | None) -> Decision:
        """Decide about the challenger beside the champion of today, None where there is none."""
        champion, fault = None, ""
        if current is not None:
            found = self._champions.get(current)
            if found is None:
                found = self._champions[current] = self._scored_or_fault(current)
            champion, fault = (None, found) if isinstance(found, str) else (found, "")
        difference = None
        if champion is not None and current != self._version:
            difference = compare(
                self._challenger.pictures, champion.pictures, self._challenger.gray_pictures
            )
        promoted, reason = self._verdict(current, champion, fault, difference)
        return Decision(promoted, reason, self._challenger, champion, current, difference)

    def _score(self, version: str) -> Rescored:
        return self._scoring.score(load_registered(f"models:/{self._name}/{version}", self._uri))

    def _scored_or_fault(self, version: str) -> Rescored | str:
        try:
            return self._score(version)
        # A model of another library version fails in whatever way its code does; that must not
        # keep a new one from being registered. The reason says it.
        except Exception as error:
            fault = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            if not _passes(error):
                return fault
            raise ConfigError(
                f"{self._name}: champion version {version} cannot be scored now, so nothing was "
                f"decided and it stays; once this is mended, try again: {without_password(fault)}"
            ) from error

    def _verdict(
        self,
        current: str | None,
        champion: Rescored | None,
        fault: str,
        difference: Interval | None,
    ) -> tuple[bool, str]:
        new = self._challenger.scores["against_gray"]
        better = True
        if current == self._version:
            return True, f"version {current} is the champion already (against_gray {new:.4f})"
        if current is None:
            reason = f"no champion yet (against_gray {new:.4f})"
        elif champion is None or difference is None:
            reason = f"champion version {current} cannot be loaded and scored: {fault}"
        else:
            old = champion.scores["against_gray"]
            pictures = len(champion.pictures)
            better, compared = _compared(difference, old, pictures, self._margin)
            reason = f"against_gray {new:.4f} against {old:.4f} of champion version {current}: "
            reason += compared
        if not new < 1:
            better = False
            reason = f"it is no better than gray pictures (against_gray {new:.4f}); {reason}"
        if self._policy != "if-better":
            return self._policy == "always", f"policy {self._policy}; {reason}"
        if better and current is not None and (other := self._other_data(current)):
            return False, other
        return better, reason

    def _other_data(self, current: str) -> str | None:
        """Say that challenger and champion were trained on different data; None where not."""
        here = self._client.get_model_version(self._name, self._version).tags
        there = self._client.get_model_version(self._name, current).tags
        # Versions of old know only where their pictures lay, not what these were.
        key = "data.hash" if "data.hash" in here and "data.hash" in there else "data"
        if here.get(key) == there.get(key):
            return None
        return (
            f"champion version {current} was trained on other data ({key} {there.get(key)}, "
            f"here {here.get(key)}): scores do not compare; the policy always moves the alias "
            "all the same"
        )


def _passes(error: BaseException) -> bool:
    """Tell whether an error says nothing of the model, which may be scored at another time."""
    if is_out_of_memory(error):
        return True
    if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
        return True
    if isinstance(error, MlflowException):
        of_its_code = error.message.startswith(_OF_ITS_CODE)
        if error.error_code not in _OF_THE_MODEL and not of_its_code:
            return True
    return error.__cause__ is not None and _passes(error.__cause__)


def _compared(
    difference: Interval, champion: float, pictures: int, margin: float
) -> tuple[bool, str]:
    """Return whether a challenger is better by the margin and beyond noise, and the words for it.

    In shares of the champion's score, positive where the challenger is better.
    """
    gain, low, high = (
        0.0 - value / champion if champion > 0 else 0.0
        for value in (difference.mean, difference.high, difference.low)
    )
    way = "better"
    if gain < 0:
        way, gain, low, high = "worse", -gain, -high, -low
    text = f"{way} by {gain:.1%} (95% interval {low:.1%} to {high:.1%} over {pictures} pictures)"
    if pictures < LEAST:
        text = f"{way} by {gain:.1%} over {pictures} pictures, of which {LEAST} are needed at least"
    if not difference.excludes_zero:
        text += ", so they cannot be told apart"
    better = way == "better" and gain >= margin and gain > 0 and difference.excludes_zero
    return better, f"{text}; {margin:.1%} is needed"


def _tags(decision: Decision, policy: Policy, margin: float, scoring: Scoring) -> dict[str, str]:
    tags = {
        "decision": "promoted" if decision.promoted else "not promoted",
        "reason": decision.reason[:_LONGEST],
        "policy": policy,
        "margin": f"{margin:g}",
        "time": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "data.hash": scoring.data_hash,
        "split": scoring.split,
        "pictures": str(len(decision.challenger.pictures)),
        **_code_tags(),
    }
    if decision.champion_version is not None:
        tags["champion.version"] = decision.champion_version
    for who, found in (("challenger", decision.challenger), ("champion", decision.champion)):
        if found is not None:
            tags |= {f"{who}.{name}": f"{found.scores[name]:.6g}" for name in _TAGGED}
            interval = estimate(found.pictures, found.gray_pictures)
            tags |= _interval_tags(f"{who}.against_gray", interval)
    if decision.difference is not None:
        tags["difference.against_gray"] = f"{decision.difference.mean:.6g}"
        tags |= _interval_tags("difference.against_gray", decision.difference)
    return {f"promotion.{key}": value for key, value in tags.items()}


def _code_tags() -> dict[str, str]:
    """Say what scored the models."""
    code = code_version()
    tags = {"code.version": installed().get("colorization", "not installed")}
    if code:
        tags |= {"code.commit": code.commit, "code.changed": str(code.changed).lower()}
    return tags


def _interval_tags(key: str, interval: Interval) -> dict[str, str]:
    return {f"{key}.low": f"{interval.low:.6g}", f"{key}.high": f"{interval.high:.6g}"}


def _worth_noting(
    client: MlflowClient, model_name: str, version: str, decision: Decision, policy: Policy
) -> bool:
    """Tell whether a decision's tags may take the place of those that the version has."""
    if decision.champion_version == version:
        return False
    there = client.get_model_version(model_name, version).tags
    return policy != "never" or "promotion.decision" not in there


def _note(client: MlflowClient, model_name: str, version: str, tags: Mapping[str, str]) -> None:
    """Write a decision's tags on a version, in place of those of a decision before."""
    there = client.get_model_version(model_name, version).tags
    for key in there:
        if key.startswith("promotion.") and key not in tags:
            client.delete_model_version_tag(model_name, version, key)
    for key, value in tags.items():
        client.set_model_version_tag(model_name, version, key, value)
