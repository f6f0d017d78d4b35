"""The gate before the alias `champion`: both models scored by the same code on the same data."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from registry import load_registered

# isort: split
from mlflow import MlflowClient
from mlflow.pyfunc import PyFuncModel

ALIAS = "champion"
MARGIN = 0.01  # share of the champion's `against_gray` by which a challenger must be better

Policy = Literal["if-better", "always", "never"]
Score = Callable[[PyFuncModel], Mapping[str, float]]

_TAGGED = ("against_gray", "ab_mae", "ab_jsd")


@dataclass(frozen=True)
class Decision:
    """Whether the alias moved, why, and what both models scored."""

    promoted: bool
    reason: str
    challenger: Mapping[str, float]
    champion: Mapping[str, float] | None  # None: there was none, or it could not be scored
    champion_version: str | None  # before the decision


def promote(
    model_name: str,
    version: str,
    policy: Policy,
    score: Score,
    *,
    tracking_uri: str,
    margin: float = MARGIN,
) -> Decision:
    """Decide whether a version becomes the champion; move the alias; note it on the version.

    `score` scores a loaded model; it is called on the challenger and on the champion of today.
    `if-better` promotes where the challenger's `against_gray` is below the champion's by the share
    `margin`, or there is no champion, or one that cannot be loaded and scored any more; never a
    challenger that is worse than gray pictures, nor one whose data (the tag `data.hash`, else
    `data`) are others than the champion's, whose scores would then be those of a stranger.
    Decision, reason and both models' scores become tags `promotion.*` of the version.

    Raises what loading or scoring the challenger raises.
    """
    client = MlflowClient(tracking_uri)
    registered = client.get_registered_model(model_name)
    current = {alias: str(v) for alias, v in registered.aliases.items()}.get(ALIAS)
    challenger = score(load_registered(f"models:/{model_name}/{version}", tracking_uri))
    champion, fault = None, None
    if current == version:
        champion = challenger
    elif current is not None:
        try:
            champion = score(load_registered(f"models:/{model_name}/{current}", tracking_uri))
        # A model of another library version fails in whatever way its code does; that must not
        # keep a new one from being registered. The reason says it.
        except Exception as error:
            fault = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    promoted, reason = _decide(policy, challenger, champion, fault, version, current, margin)
    if promoted and policy == "if-better" and current not in (None, version):
        here = client.get_model_version(model_name, version).tags
        there = client.get_model_version(model_name, str(current)).tags
        # Versions of old know only where their pictures lay, not what these were.
        key = "data.hash" if "data.hash" in here and "data.hash" in there else "data"
        if here.get(key) != there.get(key):
            promoted = False
            reason = (
                f"champion version {current} was trained on other data ({key} {there.get(key)}, "
                f"here {here.get(key)}): scores do not compare; --promote always moves the alias "
                "all the same"
            )
    if promoted:
        client.set_registered_model_alias(model_name, ALIAS, version)
    decision = Decision(promoted, reason, challenger, champion, current)
    for key, value in _tags(decision, policy, margin).items():
        client.set_model_version_tag(model_name, version, key, value)
    return decision


def _decide(
    policy: Policy,
    challenger: Mapping[str, float],
    champion: Mapping[str, float] | None,
    fault: str | None,
    version: str,
    current: str | None,
    margin: float,
) -> tuple[bool, str]:
    new = challenger["against_gray"]
    if current == version:
        return True, f"version {version} is the champion already (against_gray {new:.4f})"
    if current is None:
        better, reason = new < 1, f"no champion yet (against_gray {new:.4f})"
    elif champion is None:
        better = new < 1
        reason = f"champion version {current} cannot be loaded and scored: {fault}"
    else:
        old = champion["against_gray"]
        needed = old * (1 - margin)
        better = new < 1 and (not math.isfinite(old) or new < needed)
        reason = (
            f"against_gray {new:.4f} {'is' if better else 'is not'} below {needed:.4f}, which is "
            f"{margin:.1%} under the {old:.4f} of champion version {current}"
        )
    if not new < 1:
        reason = f"it is no better than gray pictures (against_gray {new:.4f}); {reason}"
    if policy == "always":
        return True, f"policy always; {reason}"
    if policy == "never":
        return False, f"policy never; {reason}"
    return better, reason


def _tags(decision: Decision, policy: Policy, margin: float) -> dict[str, str]:
    tags = {
        "promotion.decision": "promoted" if decision.promoted else "not promoted",
        "promotion.reason": decision.reason,
        "promotion.policy": policy,
        "promotion.margin": f"{margin:g}",
    }
    if decision.champion_version is not None:
        tags["promotion.champion.version"] = decision.champion_version
    for who, scores in (("challenger", decision.challenger), ("champion", decision.champion)):
        if scores is not None:
            for name in _TAGGED:
                if name in scores:
                    tags[f"promotion.{who}.{name}"] = f"{scores[name]:.6g}"
    return tags
