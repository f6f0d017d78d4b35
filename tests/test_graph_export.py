import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from colorization import config
from colorization.config import ConfigError
from colorization.experiment import Experiment, build_model, recipes
from colorization.graph_export import (
    TOLERANCE,
    CannotExport,
    GraphFormat,
    check_format,
    export_graph,
)
from colorization.models.colorizer import Colorizer, Progress, Turn
from small_recipe import read_small_recipe

# Those that see pictures of their training size alone, by their architecture.
FIXED = {
    "adversarial_autoencoder",
    "cinn",
    "cinn_deep",
    "cinn_instance",
    "cinn_scene",
    "naive_cvae",
}
# torch.export holds a bottleneck of one pixel for something else than one of several.
FIXED_IN_TORCH = FIXED | {"pix2pix"}
DRAWING = {"naive_cvae", "unet_cvae", "cinn", "cinn_deep", "cinn_instance", "cinn_scene"}


def small(name: str) -> tuple[Colorizer, int]:
    """Build a small recipe's model with drawn weights.

    Of 64 pixels: where the innermost features are one pixel wide, torch takes that for a constant.
    """
    data = config.override(read_small_recipe(name), {"data.size": 64})
    experiment = config.parse(Experiment, data, name)
    torch.manual_seed(1)
    return build_model(experiment).eval(), experiment.data.size


class Tinted(Colorizer):
    """Colors by lightness, times `tint`."""

    players = ()
    multiple = 2

    def __init__(self) -> None:
        super().__init__()
        self.tint = 0.1

    def turns(self, lab: Tensor, progress: Progress) -> Iterator[Turn]:
        del lab, progress
        yield from ()

    def colorize(
        self,
        lightness: Tensor,
        samples: int = 1,
        temperature: float | None = None,
        seed: int = 0,
    ) -> Tensor:
        del temperature, seed
        ab = torch.cat([lightness, -lightness], 1) * self.tint
        return ab.expand(samples, *ab.shape)


class Drifting(Tinted):
    """Tints more each time, which a graph cannot know."""

    def colorize(self, lightness: Tensor, *args: object, **named: object) -> Tensor:
        self.tint *= 1.5
        return super().colorize(lightness)


class Undecided(Tinted):
    """Does what the pixels say, which a graph cannot follow."""

    def colorize(self, lightness: Tensor, *args: object, **named: object) -> Tensor:
        return super().colorize(lightness if lightness.mean() > 0 else -lightness)


def test_a_graph_runs_without_the_project_for_any_number_of_pictures_of_any_sides(
    tmp_path: Path,
) -> None:
    exported = export_graph(Tinted(), 8, tmp_path, "torch")
    assert exported.dynamic
    assert exported.static_because is None
    assert exported.file == tmp_path / "model.pt2"
    program = f"""
import sys
sys.modules["colorization"] = None
import torch
graph = torch.export.load({str(exported.file)!r}).module()
for shape in ((1, 1, 8, 8), (5, 1, 40, 6)):
    lightness = torch.rand(shape)
    expected = torch.cat([lightness, -lightness], 1) * 0.1
    assert torch.allclose(graph(lightness=lightness), expected), shape
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said = json.loads((tmp_path / "model.json").read_text())
    assert said["inputs"]["lightness"]["shape"] == ["pictures", 1, "height", "width"]
    assert said["sides_are_multiples_of"] == 2
    assert "noise" not in said["inputs"]


@pytest.mark.parametrize(
    ("model", "reason"),
    [(Drifting, "computes something else"), (Undecided, "cannot be exported for 8 x 8 pixels")],
)
def test_a_graph_that_is_not_the_model_is_not_written(
    model: type[Tinted], reason: str, tmp_path: Path
) -> None:
    with pytest.raises(CannotExport, match=reason):
        export_graph(model(), 8, tmp_path, "torch")
    assert not list(tmp_path.iterdir())


def test_without_its_packages_onnx_is_refused_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    check_format("torch")
    with pytest.raises(ConfigError, match=r"not installed: onnxscript.*colorization\[onnx\]"):
        check_format("onnx")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["torch", "onnx"])
@pytest.mark.parametrize("name", list(recipes()))
def test_every_recipe_becomes_a_graph_that_computes_the_same(
    name: str, kind: GraphFormat, tmp_path: Path
) -> None:
    model, size = small(name)
    exported = export_graph(model, size, tmp_path, kind)
    assert exported.difference <= TOLERANCE
    fixed = FIXED_IN_TORCH if kind == "torch" else FIXED
    assert exported.dynamic == (name not in fixed), exported.static_because
    assert len(exported.checked) == (3 if exported.dynamic else 1)
    said = json.loads((tmp_path / "model.json").read_text())
    assert ("noise" in said["inputs"]) == (name in DRAWING)
