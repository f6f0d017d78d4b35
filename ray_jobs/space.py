"""A search space is the experiment with distributions in place of values."""

import hashlib
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from optuna.trial import BaseTrial

from colorization.config import ConfigError, dump, flatten, nearest, parse
from colorization.experiment import SPEED_ONLY, Experiment, check, read_experiment
from distributions import Choice, Distribution, read_tagged, write_tagged
from search_config import SearchConfig
from space_edits import override, parse_tagged_overrides
from space_tree import Suggest, is_fixed, project, resolve, walk

# What may differ between trials of the pictures: how they are trained on, not which are scored.
_SEARCHED_OF_DATA = ("data.flip", "data.crop_scale", "data.loader_workers")
SPACES = Path(__file__).resolve().parent.parent / "search_spaces"
RANDOM_PROBES = 16  # sampled before a search starts, to meet combinations that cannot be


class FirstTrial(NamedTuple):
    """A trial that is not drawn: what of a recipe's settings a space searches."""

    recipe: str
    parameters: dict[str, Any]


@dataclass(frozen=True)
class Space:
    """What a study searches: `tree` is an experiment's data with distributions in it."""

    search: SearchConfig
    tree: dict[str, Any]
    origin: str  # the file, for messages

    @classmethod
    def read(
        cls, path: Path | None, model: str | None = None, overrides: Sequence[str] = ()
    ) -> "Space":
        """Read a space, the model's own where no file is given, and change it by `key=value` words.

        A word fixes a value in place of a distribution, or puts one there
        (`model.lambda_l1=!loguniform [10, 300]`); those that begin with `search.` change the
        search. A file without tags or without `search` is read too: a plain experiment.

        Raises ConfigError that names the file, the key or the line and what is right.
        """
        if path is None:
            path = _file_of(model or "")
        data = _read_document(path)
        data = override(data, parse_tagged_overrides(overrides))
        search = parse(SearchConfig, data["search"], f"{path}: search")
        space = cls(search, data["experiment"], str(path))
        if model is not None:
            space._require_model(model)
        return space

    def to_yaml(self) -> str:
        """Write the space as a file that `read` reads as the same, wherever it is read.

        Paths are written from the root, as the settings understood them.
        """
        typical = dump(self.typical())
        tree = dict(self.tree)
        data = dict(tree.get("data") or {})
        tree["data"] = {**data, "source": typical["data"]["source"]}
        train = dict(tree["train"])
        train["stages"] = {
            name: {**stage, "change": typical["train"]["stages"][name]["change"]}
            if isinstance(stage, Mapping) and is_fixed(stage.get("change"))
            else stage
            for name, stage in train["stages"].items()
        }
        return write_tagged({"search": dump(self.search), "experiment": {**tree, "train": train}})

    def sample(self, trial: BaseTrial) -> Experiment:
        """Draw an experiment; parameters are named by dotted paths.

        Inside a branch of a choice the branch's key is part of the name
        (`model.adversarial.wasserstein.gradient_penalty`), so that branches never share one.
        Raises ConfigError where the drawn values do not go together.
        """
        return self._experiment(lambda name, distribution: distribution.suggest(trial, name))

    def typical(self) -> Experiment:
        """Return the experiment in the middle of its ranges, with each choice's first option.

        The only one of a space without distributions. Raises ConfigError where it is not legal.
        """
        return self._experiment(_stand_in({}))

    def first_trials(self) -> list[FirstTrial]:
        """Return the trials that come first: the recipes', each once.

        There are none on a grid, of which they need not be points.
        """
        found: list[FirstTrial] = []
        for recipe in self.search.first_trials if self.search.sampler.name != "grid" else ():
            parameters = self.project(read_experiment(recipe))
            if parameters and parameters not in (first.parameters for first in found):
                found.append(FirstTrial(recipe, parameters))
        return found

    def parameters(self) -> dict[str, Distribution]:
        """Name everything that is searched and its distribution."""
        return {found.name: found.distribution for found in walk(self.tree, "", {})}

    def validate(self) -> list[Experiment]:
        """Check before anything starts that whatever the space may give is a legal experiment.

        Every option of every choice and both ends of every range are tried, the networks outlined
        without memory, and some random combinations besides. Returns what was tried. Raises
        ConfigError that names the file, the key, what was found and what is allowed.
        """
        for name in self.parameters():
            if name.startswith("data.") and not name.startswith(_SEARCHED_OF_DATA):
                raise ConfigError(
                    f"{self.origin}: {name}: of data, which all trials share, only "
                    f"{', '.join(_SEARCHED_OF_DATA)} may be searched"
                )
        checked: set[str] = set()
        tries: list[Experiment] = []
        for values, tried in [*self._probes(), *self._random_probes()]:
            try:
                experiment = self._experiment(_stand_in(values))
                tries.append(experiment)
                networks = _networks(experiment)
                if networks not in checked:
                    check(experiment)
                    checked.add(networks)
            except ConfigError as error:
                start = "" if str(error).startswith(self.origin) else f"{self.origin}: "
                raise ConfigError(f"{start}{error}{tried}") from error
        return tries

    def project(self, experiment: Experiment) -> dict[str, Any]:
        """Return what of an experiment the space searches, as parameters of a study's trial.

        Numbers are clipped into their ranges. What lies in a branch, or in a kind of model,
        generator or loss, that the space does not offer is left out: the sampler fills it in. A
        stage that the experiment does not have takes no epochs.
        """
        data = dump(experiment)
        train = self.tree.get("train")
        stages = train.get("stages") if isinstance(train, Mapping) else None
        for stage in stages if isinstance(stages, Mapping) else ():
            data["train"]["stages"].setdefault(stage, {"epochs": 0, "steps": 0})
        return dict(project(self.tree, data, ""))

    def parameters_of(self, experiment: Experiment) -> dict[str, Any] | None:
        """Return the parameters that an experiment is sampled with; None if it never is."""
        found = self.project(experiment)
        missing: list[str] = []

        def suggest(name: str, distribution: Distribution) -> Any:
            if name not in found:
                missing.append(name)
            return found.get(name, distribution.middle)

        try:
            same = self._experiment(suggest)
        except ConfigError:
            return None
        return None if missing or same.hash != experiment.hash else found

    @property
    def outline(self) -> dict[str, str]:
        """The settings and the distributions as texts, to compare spaces by."""
        fixed = flatten(dump(self.typical()))
        searched = self.parameters()
        texts = {k: json.dumps(v) for k, v in fixed.items() if k not in SPEED_ONLY}
        texts |= {name: str(distribution) for name, distribution in searched.items()}
        compared = {"search.scheduler.metric": self.search.scheduler.metric}
        return texts | {"search.objective": json.dumps(self.search.objective)} | compared

    @cached_property
    def hash(self) -> str:
        """Twelve hex digits that stand for what may be sampled and for what is compared.

        Not the way the file is written, the order in it, what changes speed alone or the number of
        trials. Raises ConfigError for a space that is not valid.
        """
        samples = []
        for values, _ in self._probes():
            flat = flatten(dump(self._experiment(_stand_in(values))))
            samples.append({key: flat[key] for key in flat if key not in SPEED_ONLY})
        parameters = sorted((name, _extent(found)) for name, found in self.parameters().items())
        compared = [self.search.objective, self.search.scheduler.metric]
        text = json.dumps([sorted(map(json.dumps, samples)), parameters, compared])
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def _experiment(self, suggest: Suggest) -> Experiment:
        return parse(Experiment, resolve(self.tree, "", suggest), self.origin)

    def _require_model(self, model: str) -> None:
        part = self.tree.get("model")
        found = part.get("name") if isinstance(part, Mapping) else part
        if found != model:
            raise ConfigError(
                f"{self.origin}: model.name: found {found}; {model} is asked for, and one study "
                "searches one family"
            )

    def _probes(self) -> Iterator[tuple[dict[str, Any], str]]:
        """Yield parameter values that reach every option and both ends of every range, one at a
        time, and how to say what is tried."""
        yield {}, ""
        for name, distribution, under in walk(self.tree, "", {}):
            for value in distribution.extremes:
                yield {**under, name: value}, f" (tried {name}={value} of {distribution})"

    def _random_probes(self) -> Iterator[tuple[dict[str, Any], str]]:
        draw = random.Random(0)  # the same in every run: a space is legal or it is not
        searched = self.parameters()
        for _ in range(RANDOM_PROBES if searched else 0):
            values = {name: draw.choice(found.extremes) for name, found in searched.items()}
            together = ", ".join(f"{name}={value}" for name, value in values.items())
            yield values, f" (tried together: {together})"


def _file_of(model: str) -> Path:
    known = {path.stem: path for path in sorted(SPACES.glob("*.yaml"))}
    if model in known:
        return known[model]
    hint = nearest(model, known)
    raise ConfigError(
        f"--model: no search space for {model!r}; {hint}known: {', '.join(known) or 'none'}"
    )


def _read_document(path: Path) -> dict[str, Any]:
    try:
        data = read_tagged(path.read_text(encoding="utf-8"), str(path))
    except FileNotFoundError:
        raise ConfigError(f"no file {path}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{path} holds no mapping; `search:` and `experiment:` are needed")
    if "experiment" not in data and "search" not in data:
        data = {"experiment": data}
    for key in data:
        if key not in ("search", "experiment"):
            raise ConfigError(f"{path}: {key}: unknown part; known: search, experiment")
    document = {"search": data.get("search") or {}, "experiment": data.get("experiment") or {}}
    for key, part in document.items():
        if not isinstance(part, dict):
            raise ConfigError(f"{path}: {key}: found {part!r}, a mapping of settings is needed")
    return document


def _networks(experiment: Experiment) -> str:
    """Write down all that `check` looks at."""
    data = dump(experiment)
    freeze = {name: stage["freeze"] for name, stage in data["train"]["stages"].items()}
    return json.dumps([data["model"], data["data"]["size"], freeze])


def _extent(distribution: Distribution) -> str:
    keys = distribution.extremes if isinstance(distribution, Choice) else distribution
    return repr(keys)


def _stand_in(values: Mapping[str, Any]) -> Suggest:
    """Answer in a sampler's place: the values given, else the middle."""

    def suggest(name: str, distribution: Distribution) -> Any:
        return values.get(name, distribution.middle)

    return suggest
