"""How a space is searched: what is compared, how many trials, when one is stopped early."""

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from colorization.config import Config
from colorization.experiment import recipes
from colorization.score_names import PERCEPTUAL_SCORES, SAMPLE_SCORES, SCORES
from sampler_config import Sampler, TPEConfig
from stopping_rules import AshaConfig, Scheduler
from winner_rule import KNEE, parse_rule


class SearchConfig(Config):
    """The `search` part of a space."""

    objective: dict[str, Literal["min", "max"]] = Field(
        default={"ab_mae": "min", "ab_jsd": "min"},
        min_length=1,
        description="scores that the search improves; several give a Pareto front",
    )
    trials: int = Field(default=8, ge=1, description="how many experiments are tried")
    sampler: Sampler = Field(
        default=TPEConfig(), description="how the next trial's settings are chosen"
    )
    scheduler: Scheduler = Field(default=AshaConfig(), description="when trials are stopped early")
    first_trials: tuple[str, ...] = Field(
        default=(), description="recipes whose searched values are tried first"
    )
    winner: str = Field(
        default=KNEE,
        description="how one is chosen of several that are better in one score each: knee, or e.g. "
        "'best ab_jsd within 5% of ab_mae'",
    )
    promotion_margin: float = Field(
        default=0.01,
        ge=0,
        lt=1,
        description="share of the champion's score by which a challenger must be better",
    )

    @field_validator("objective")
    @classmethod
    def _scores_are_known(cls, objective: dict[str, str]) -> dict[str, str]:
        known = SCORES | SAMPLE_SCORES | PERCEPTUAL_SCORES
        for name, direction in objective.items():
            if name not in known:
                raise ValueError(f"no score {name!r}; scores: {', '.join(known)}")
            if direction != known[name]:
                raise ValueError(f"{name}: found {direction}, the better way is {known[name]}")
        return objective

    @field_validator("first_trials")
    @classmethod
    def _recipes_are_known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        known = recipes()
        for name in names:
            if name not in known:
                raise ValueError(f"no recipe {name!r}; recipes: {', '.join(known)}")
        return names

    @field_validator("winner")
    @classmethod
    def _winner_is_a_rule(cls, text: str) -> str:
        rule = parse_rule(text)
        return str(rule) if rule else KNEE

    @model_validator(mode="after")
    def _winner_is_chosen_by_objectives(self) -> Self:
        rule = parse_rule(self.winner)
        for name in (rule.score, rule.anchor) if rule else ():
            if name not in self.objective:
                raise ValueError(
                    f"winner: found {self.winner!r}, but {name} is none of the objectives: "
                    f"{', '.join(self.objective)}"
                )
        return self
