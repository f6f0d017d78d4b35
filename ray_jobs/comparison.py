"""Any number of models scored on the same pictures by the same code."""

import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

import torch
from torch import Tensor

from colorization import config
from colorization.color import render, rgb_to_lab
from colorization.config import ConfigError
from colorization.data import DataConfig, PictureSet, PictureSets, ScoringLoader, open_data
from colorization.data.picture_sets import some_names
from colorization.distributed import current_ranks
from colorization.experiment import Experiment
from colorization.inference import PictureColorizer
from colorization.metrics import ColorizationScores, against_gray
from colorization.perceptual import SMALLEST_SIDE, perceptual_scores
from colorization.pictures import Picture
from side_by_side import SEED, Gallery, SideBySide
from stored_models import StoredModel, find_model

_BATCH = 32  # pictures decoded together; models color one at a time
_WARM_UP = 3  # pictures colored before time is taken

GRAY = "leave-gray"


@dataclass(frozen=True)
class Compared:
    """A model's scores and how fast it is."""

    label: str
    scores: Mapping[str, float]
    milliseconds: float | None = None  # a picture; median
    size: int | None = None  # pixels of the short side that it was trained at, and works at


@dataclass
class Comparison:
    """What all models have in common, and what became of each."""

    description: str  # of the pictures
    split: str
    pictures: int
    side: int
    data_hash: str
    measures_generalization: bool
    timing: str
    models: list[Compared] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    gallery: Gallery | None = None


def compare_models(
    words: Sequence[str],
    settings: Sequence[str],
    split: str,
    pictures: int,
    *,
    tracking_uri: str,
    say: Callable[[str], None],
) -> Comparison:
    """Score the models that words of a command line name, leave-gray first.

    The pictures are the `split` of the first model's data, or of what `settings` make of it, cut
    as for scoring. Each model colors them as `colorize` does, at the size that it was trained at: a
    model of that very size scores what it did in training. A model that cannot be loaded or fails
    is named in `failed`, and costs only itself. Raises ConfigError where none can be loaded, and
    for data that cannot be opened.
    """
    device = current_ranks().device
    failed: dict[str, str] = {}
    stored: StoredModel | None = None
    queue = list(words)
    while queue and stored is None:  # the first that can be loaded says which data
        stored = _load(queue.pop(0), tracking_uri, device, failed, say)
    if stored is None:
        raise ConfigError("; ".join(failed.values()))
    data = _data(stored.experiment, settings)
    sets = open_data(data)
    chosen = sets.test if split == "test" else sets.validation
    say(f"scoring {GRAY} ...")
    judge = _Judge(chosen, data, device)
    shown = SideBySide(chosen, pictures, data.size)
    shown.add_gray()
    found = Comparison(
        sets.description,
        split,
        len(chosen),
        data.size,
        sets.fingerprint,
        sets.measures_generalization,
        _timing(device),
        [Compared(GRAY, judge.gray)],
        failed,
    )
    if judge.left_out:
        say(judge.left_out)
    if judge.unreadable:
        found.warnings.append(f"left out, unreadable: {some_names(judge.unreadable)}")
    if not sets.measures_generalization:
        found.warnings.append(f"these scores measure no generalization: {sets.description}")
    while stored is not None:
        _judge_one(stored, judge, shown, found, sets, say)
        stored = None
        while queue and stored is None:
            stored = _load(queue.pop(0), tracking_uri, device, failed, say)
    shown.add_truth()
    found.gallery = shown.gallery()
    for warning in found.warnings:
        say(f"warning: {warning}")
    return found


def _load(
    word: str,
    tracking_uri: str,
    device: torch.device,
    failed: dict[str, str],
    say: Callable[[str], None],
) -> StoredModel | None:
    try:
        return find_model(word, tracking_uri, device)
    # Files, torch and MLflow's client raise what they like; the other models can be scored.
    except Exception as error:
        told = str(error) if isinstance(error, ConfigError) else f"{type(error).__name__}: {error}"
        failed[word] = told if word in told else f"{word}: {told}"
        say(f"left out: {failed[word]}")
        return None


def _judge_one(
    stored: StoredModel,
    judge: "_Judge",
    shown: SideBySide,
    found: Comparison,
    sets: PictureSets,
    say: Callable[[str], None],
) -> None:
    """Score a model and let it color the pictures of the page."""
    taken = {model.label for model in found.models}
    label, number = stored.label, 2
    while label in taken:
        label, number = f"{stored.label} ({number})", number + 1
    if stored.data_hash not in (None, sets.fingerprint):
        found.warnings.append(
            f"{label} was trained on data with the hash {stored.data_hash}, this has "
            f"{sets.fingerprint}: the {found.split} pictures may be among those it was trained on"
        )
    colorizer = PictureColorizer(stored.model, stored.experiment.data.size, judge.device)
    say(f"scoring {label} ...")  # which takes minutes on many pictures
    try:
        scored = judge.score(label, colorizer)
        shown.add_model(label, f"{scored.milliseconds:.1f} ms", colorizer.one)
    # Damaged weights, memory: of this model, and the others can be scored.
    except Exception as error:
        found.failed[label] = f"{label}: {type(error).__name__}: {error}"
        shown.leave_out(label, found.failed[label])
        say(f"left out: {found.failed[label]}")
        return
    found.models.append(scored)
    say(f"{label}: against_gray {scored.scores['against_gray']:.4f}")


class _Judge:
    """Scores models on one set of pictures."""

    def __init__(self, pictures: PictureSet, data: DataConfig, device: torch.device) -> None:
        self.device = device
        self._pictures, self._data = pictures, data
        self._perceptual, self.left_out = None, ""
        if data.size >= SMALLEST_SIDE:
            self._perceptual, self.left_out = perceptual_scores(device)
        self.unreadable: list[str] = []
        gray = self._scores(_gray)
        self.gray = {"against_gray": 1.0, **gray}

    def score(self, label: str, colorizer: PictureColorizer) -> Compared:
        """Score a model, one picture at a time, and take its time."""
        took: list[float] = []

        def color(rgb: Tensor) -> Tensor:
            colored = []
            for picture in rgb.permute(0, 2, 3, 1).cpu().numpy():
                started = time.perf_counter()
                result = colorizer.one(
                    Picture(picture)
                ).rgb  # on the CPU: a GPU has come to its end
                took.append(time.perf_counter() - started)
                colored.append(torch.from_numpy(result).permute(2, 0, 1))
            return torch.stack(colored)

        with torch.random.fork_rng():
            torch.manual_seed(SEED)
            scores = self._scores(color)
        warm = took[_WARM_UP:] or took
        compared = {"against_gray": against_gray(scores, self.gray), **scores}
        return Compared(label, compared, 1000 * median(warm), colorizer.size)

    def _scores(self, color: Callable[[Tensor], Tensor]) -> dict[str, float]:
        scores = ColorizationScores(self.device)
        if self._perceptual:
            self._perceptual.reset()
        self.unreadable = []
        for batch in ScoringLoader(self._pictures, self._data, batch_size=_BATCH):
            self.unreadable += batch.unreadable
            if not len(batch.rgb):
                continue
            colored = color(batch.rgb)
            scores.update_rendered(colored, batch.rgb)
            if self._perceptual:
                self._perceptual.update(colored.to(self.device), batch.rgb.to(self.device))
        perceptual = self._perceptual.compute() if self._perceptual else {}
        return scores.compute() | perceptual


def _gray(rgb: Tensor) -> Tensor:
    lab = rgb_to_lab(rgb)
    return render(lab[:, :1], torch.zeros_like(lab[:, 1:]))


def _data(experiment: Experiment, settings: Sequence[str]) -> DataConfig:
    data = config.override(config.dump(experiment.data), _below_data(settings))
    return config.parse(DataConfig, data, "data")


def _below_data(settings: Sequence[str]) -> dict[str, object]:
    parsed = config.parse_overrides(settings)
    return {key.removeprefix("data."): value for key, value in parsed.items()}


def _timing(device: torch.device) -> str:
    """Say how the time of a picture was measured."""
    if device.type == "cuda":
        where = torch.cuda.get_device_name(device)
    else:
        where = f"CPU ({platform.machine()}), {torch.get_num_threads()} threads"
    return (
        f"ms: of one picture at a time, from pixels to pixels, on {where}; median after "
        f"{_WARM_UP} pictures to warm up"
    )
