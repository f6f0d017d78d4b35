"""A model as a graph that runs without this project: `torch.export`'s, or ONNX's.

What is exported is what the model computes: lightness at its working size in, ab out; of a model
that draws, the noise is a second input. Reading pictures, resizing and putting color and lightness
together are the caller's.
"""

import importlib.util
import io
import json
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from colorization.config import ConfigError
from colorization.models.colorizer import Colorizer
from colorization.pictures import replace_file

GraphFormat = Literal["torch", "onnx"]
FILES: dict[GraphFormat, str] = {"torch": "model.pt2", "onnx": "model.onnx"}
DESCRIPTION = "model.json"
TOLERANCE = 1e-4  # of ab/110: a hundredth of a unit of a and b

_ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
_LONGEST = 8192  # pixels of a side


class CannotExport(ConfigError):
    """A model that cannot become a graph: says which, and why."""


@dataclass(frozen=True)
class Exported:
    """A graph that was written, and what it takes."""

    file: Path
    dynamic: bool  # whether it takes other sides than the training size
    static_because: str | None  # the reason where the architecture would allow others
    difference: float  # most that it differed from the model, in ab/110
    checked: list[tuple[int, int]]  # sides (height, width) that were compared


def check_format(kind: GraphFormat) -> None:
    """Raise ConfigError where a format needs packages that are not installed."""
    if kind == "torch":
        return
    missing = [name for name in _ONNX_PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"--format onnx: not installed: {', '.join(missing)}; install them with "
            "`pip install 'colorization[onnx]'` or take --format torch"
        )


def export_graph(model: Colorizer, size: int, folder: Path, kind: GraphFormat) -> Exported:
    """Write a model's graph and its description, model.json, into a folder.

    The graph takes any number of pictures and, where the architecture allows, any sides that are
    multiples of the model's; else those of the training size. Before it is written it is run beside
    the model on noise of several sizes.

    Raises CannotExport for a model that cannot be exported or whose graph computes something else,
    ConfigError where ONNX's packages are missing.
    """
    check_format(kind)
    graph = _Graph(_without_parametrizations(model))
    dynamic, reason = not model.fixed_size, None
    try:
        data, sides, difference = _make(graph, size, kind, dynamic)
    except CannotExport as error:
        if not dynamic:
            raise
        dynamic, reason = False, str(error)
        data, sides, difference = _make(graph, size, kind, dynamic)
    file = folder / FILES[kind]
    exported = Exported(file, dynamic, reason, difference, sides)
    replace_file(file, data)
    description = json.dumps(_describe(graph, size, exported), indent=2)
    replace_file(folder / DESCRIPTION, description.encode())
    return exported


class _Graph(nn.Module):
    """A model as a function of tensors alone."""

    def __init__(self, model: Colorizer) -> None:
        super().__init__()
        self.model = model

    def forward(self, lightness: Tensor, noise: Tensor | None = None) -> Tensor:
        if noise is None:
            return self.model.colorize(lightness)[0]
        return self.model.color_from(lightness, noise)

    def inputs(self, pictures: int, height: int, width: int, seed: int = 0) -> dict[str, Tensor]:
        """Draw what the graph may be given."""
        generator = torch.Generator().manual_seed(seed)
        lightness = torch.rand(pictures, 1, height, width, generator=generator) * 2 - 1
        if not (shape := self.model.latent_shape(height, width)):
            return {"lightness": lightness}
        return {"lightness": lightness, "noise": torch.randn(1, *shape, generator=generator)}


def _without_parametrizations(model: Colorizer) -> Colorizer:
    """Return a copy on the CPU whose weights are what spectral norm makes of them."""
    copy = deepcopy(model).cpu().eval().requires_grad_(False)
    for module in copy.modules():
        for name in list(getattr(module, "parametrizations", ())):
            parametrize.remove_parametrizations(module, name, leave_parametrized=True)
    return copy


def _make(
    graph: _Graph, size: int, kind: GraphFormat, dynamic: bool
) -> tuple[bytes, list[tuple[int, int]], float]:
    """Return a graph's file, the sides that it was compared at, and how much it differed."""
    program = _export(graph, size, dynamic=dynamic)
    data = _torch_bytes(program) if kind == "torch" else _onnx_bytes(program)
    run = _load_torch(data) if kind == "torch" else _load_onnx(data)
    sides = _sides(graph.model, size) if dynamic else [(size, size)]
    return data, sides, _compare(graph, run, sides)


def _export(graph: _Graph, size: int, *, dynamic: bool) -> torch.export.ExportedProgram:
    multiple = graph.model.multiple
    pictures = torch.export.Dim("pictures", min=1, max=4096)
    shapes: dict[str, dict[int, Any]] = {"lightness": {0: pictures}}
    height, width = size, size
    if dynamic:
        height, width = size + multiple, size + 2 * multiple  # no side may be taken for another
        limits = {"min": 1, "max": _LONGEST // multiple}
        rows, columns = torch.export.Dim("rows", **limits), torch.export.Dim("columns", **limits)
        shapes["lightness"] |= {2: multiple * rows, 3: multiple * columns}
        shapes["noise"] = {2: rows, 3: columns}
    given = graph.inputs(2, height, width)
    named = {name: shapes.get(name, {}) for name in given}
    with _quietly():
        try:
            return torch.export.export(graph, (), given, dynamic_shapes=named)
        # What cannot be traced, torch says in errors of many kinds.
        except Exception as error:
            name = type(graph.model).__name__
            sides = "any sides" if dynamic else f"{size} x {size} pixels"
            reason = " ".join(str(error).split())[:300]
            raise CannotExport(
                f"{name} cannot be exported for {sides}: {type(error).__name__}: {reason}"
            ) from error


Run = Callable[[Mapping[str, Tensor]], Tensor]


def _torch_bytes(program: torch.export.ExportedProgram) -> bytes:
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    return buffer.getvalue()


def _load_torch(data: bytes) -> Run:
    module = torch.export.load(io.BytesIO(data)).module()
    return lambda inputs: module(**inputs)


def _onnx_bytes(program: torch.export.ExportedProgram) -> bytes:
    with _quietly(), tempfile.TemporaryDirectory() as folder:
        try:
            converted = torch.onnx.export(program, dynamo=True, verbose=False, output_names=["ab"])
        # Of what has no counterpart in ONNX the converter says so in errors of many kinds.
        except Exception as error:
            reason = " ".join(str(error).split())[:300]
            raise CannotExport(
                f"this model cannot become ONNX: {type(error).__name__}: {reason}"
            ) from error
        assert converted is not None
        file = Path(folder) / FILES["onnx"]
        converted.save(file)
        if any(other != file for other in Path(folder).iterdir()):
            raise CannotExport("this model is larger than the 2 GB that one ONNX file may have")
        return file.read_bytes()


def _load_onnx(data: bytes) -> Run:
    import onnxruntime

    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])

    def run(inputs: Mapping[str, Tensor]) -> Tensor:
        answer = session.run(["ab"], {name: value.numpy() for name, value in inputs.items()})
        return torch.from_numpy(answer[0])

    return run


def _sides(model: Colorizer, size: int) -> list[tuple[int, int]]:
    """List sides to compare at: the training's, and two longer ones."""
    step = model.multiple
    start = size + -size % step
    return [(start, start), (start + step, start + 3 * step), (start + 2 * step, start)]


@torch.no_grad()
def _compare(graph: _Graph, run: Run, sides: list[tuple[int, int]]) -> float:
    """Return the largest difference between model and graph; raises CannotExport if too large."""
    largest = 0.0
    for index, (height, width) in enumerate(sides):
        for pictures in (1, 3):
            given = graph.inputs(pictures, height, width, seed=index + 1)
            try:
                found = run(given)
            # Each runtime says in its own errors what it cannot compute.
            except Exception as error:
                reason = " ".join(str(error).split())[:300]
                raise CannotExport(
                    f"the exported graph fails for {pictures} of {height} x {width} pixels: "
                    f"{type(error).__name__}: {reason}"
                ) from error
            difference = (found - graph(**given)).abs().max().item()
            if not difference <= TOLERANCE:
                raise CannotExport(
                    f"the exported graph computes something else: for {height} x {width} pixels "
                    f"its ab/110 differs by {difference:.3g}, at most {TOLERANCE:g} is allowed"
                )
            largest = max(largest, difference)
    return largest


def _describe(graph: _Graph, size: int, exported: Exported) -> dict[str, Any]:
    """Say what one needs to know who runs the graph."""
    model = graph.model
    sides = ["height", "width"] if exported.dynamic else [size, size]
    inputs: dict[str, Any] = {
        "lightness": {
            "shape": ["pictures", 1, *sides],
            "meaning": "L / 50 - 1 of CIE Lab (D65), float32",
        }
    }
    if shape := model.latent_shape(size, size):
        grows = exported.dynamic and len(shape) > 1
        inputs["noise"] = {
            "shape": [1, *shape],
            "meaning": "temperature * N(0, 1), float32; one draw for all pictures"
            + ("; the shape of the training size, its last two grow with the sides" * grows),
        }
    return {
        "file": exported.file.name,
        "inputs": inputs,
        "output": {"shape": ["pictures", 2, *sides], "meaning": "a / 110 and b / 110, float32"},
        "training_size": size,
        "sides_are_multiples_of": model.multiple if exported.dynamic else size,
        "largest_difference_seen": exported.difference,
        "compared_at": exported.checked,
    }


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep back what torch and the converter tell of their insides."""
    loggers = [logging.getLogger(name) for name in ("torch", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
