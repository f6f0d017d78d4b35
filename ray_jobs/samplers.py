"""Optuna's samplers for a search, none of which keeps anything between two trials."""

import hashlib
import warnings

from optuna.exceptions import ExperimentalWarning
from optuna.samplers import (
    BaseSampler,
    CmaEsSampler,
    GPSampler,
    PartialFixedSampler,
    RandomSampler,
    TPESampler,
)

from colorization.config import ConfigError
from designs import grid_point, grid_size, sobol_point
from distributions import Choice
from sampler_config import (
    CMAESConfig,
    GPConfig,
    GridConfig,
    QMCConfig,
    RandomConfig,
    TPEConfig,
)
from search_config import SearchConfig
from space import Space

LARGEST_GRID = 100_000


def check_sampler(search: SearchConfig, space: Space) -> None:
    """Raise ConfigError where the sampler cannot search the space, before anything starts."""
    match search.sampler:
        case CMAESConfig():
            _check_cma_es(search, space)
        case GridConfig(points=points):
            size = grid_size(space, points)
            if size > LARGEST_GRID:
                raise ConfigError(
                    f"search.sampler.name: found grid, of {size:,} combinations with "
                    f"{points} values of each range; {LARGEST_GRID:,} at most: lower "
                    "search.sampler.points, fix some settings (key=value), or fill the space "
                    "evenly by search.sampler.name=qmc"
                )


def most_trials(search: SearchConfig, space: Space) -> int | None:
    """Return how many different trials the sampler has to give; None where there is no end."""
    if isinstance(search.sampler, GridConfig):
        return grid_size(space, search.sampler.points)
    return None


def build_sampler(search: SearchConfig, space: Space, seed: int, index: int) -> BaseSampler:
    """Return the sampler of a study's index-th trial, from 0.

    All that it knows comes from the arguments and from the trials of the study that asks it, system
    attributes among them, so that a search goes on after a restart as if there had been none.
    """
    own = _seed_of(seed, index)
    with warnings.catch_warnings():
        # What a conditional space searched by several trials at once needs, and samplers with
        # prepared points, are what Optuna still calls experimental.
        warnings.simplefilter("ignore", ExperimentalWarning)
        match search.sampler:
            case TPEConfig() as tpe:
                return TPESampler(
                    multivariate=tpe.multivariate,
                    group=tpe.group,
                    constant_liar=tpe.constant_liar,
                    n_startup_trials=_startup(tpe, search.trials),
                    seed=own,
                )
            case GPConfig() as gp:
                return GPSampler(
                    n_startup_trials=_startup(gp, search.trials),
                    deterministic_objective=False,
                    warn_independent_sampling=False,
                    seed=own,
                )
            case CMAESConfig() as cma_es:
                # Intermediate values need not be of the objective: stopped trials cannot be used.
                return CmaEsSampler(
                    n_startup_trials=_startup(cma_es, search.trials),
                    consider_pruned_trials=False,
                    warn_independent_sampling=False,
                    seed=own,
                )
            case RandomConfig():
                return RandomSampler(seed=own)
            case GridConfig(points=points):
                point = grid_point(space, points, seed, index)
                return PartialFixedSampler(point, RandomSampler(seed=own))
            case QMCConfig():
                point = sobol_point(space, seed, index)
                return PartialFixedSampler(point, RandomSampler(seed=own))


def _startup(sampler: TPEConfig | GPConfig | CMAESConfig, trials: int) -> int:
    return sampler.startup_trials or max(4, min(10, trials // 3))


def _seed_of(seed: int, index: int) -> int:
    """Return a seed of its own for each trial: a seeded sampler repeats its first draws."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{index}".encode()).digest()[:4])


def _check_cma_es(search: SearchConfig, space: Space) -> None:
    way_out = "or take another sampler (search.sampler.name=tpe, gp, random, grid or qmc)"
    if len(search.objective) > 1:
        raise ConfigError(
            f"search.sampler.name: found cma_es, which improves one score; search.objective has "
            f"{', '.join(search.objective)}: keep one, {way_out}"
        )
    searched = space.parameters()
    choices = {
        name: found
        for name, found in searched.items()
        if isinstance(found, Choice) and len(found.options) > 1
    }
    if choices:
        shown = "; ".join(f"{name} is {found}" for name, found in choices.items())
        raise ConfigError(
            f"search.sampler.name: found cma_es, which searches ranges only; {shown}: fix what is "
            f"chosen (key=value), {way_out}"
        )
    ranges = [name for name, found in searched.items() if not isinstance(found, Choice)]
    if len(ranges) < 2:
        raise ConfigError(
            f"search.sampler.name: found cma_es, which searches two ranges at least; here it is "
            f"{', '.join(ranges) or 'none'}: search more, {way_out}"
        )
