import base64
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowException

from colorization.__main__ import main
from colorization.config import parse
from colorization.experiment import Experiment
from colorization.pictures import Picture, encode_picture
from pyfunc_model import ColorizerModel
from sepia import photo
from small_recipe import read_small_recipe
from untrained import write_export


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    experiment = parse(Experiment, read_small_recipe("cinn"))
    return write_export(experiment, tmp_path_factory.mktemp("cinn"))


@pytest.fixture(scope="module")
def model(folder: Path) -> ColorizerModel:
    model = ColorizerModel()
    context: Any = SimpleNamespace(artifacts={"checkpoint": str(folder)})
    model.load_context(context)
    return model


def ask(model: ColorizerModel, data: bytes, params: dict[str, Any]) -> dict[str, Any]:
    context: Any = None
    (row,) = model.predict(context, pd.DataFrame({"picture": [data]}), params).to_dict("records")
    return {str(column): value for column, value in row.items()}


def png(rgb: np.ndarray) -> bytes:
    return encode_picture(Picture(rgb), ".png")


def test_references_in_a_param_give_the_bytes_that_the_command_line_writes(
    model: ColorizerModel, folder: Path, tmp_path: Path
) -> None:
    picture = tmp_path / "picture.png"
    picture.write_bytes(png(photo(40, 60)))
    flags: list[str] = []
    for number, size in enumerate([(50, 30), (33, 64)]):
        (tmp_path / f"{number}.png").write_bytes(png(photo(*size)))
        flags += ["--reference", str(tmp_path / f"{number}.png")]
    out = tmp_path / "out.png"
    assert main(["colorize", str(folder), str(picture), "-o", str(out), *flags]) == 0
    text = [base64.b64encode(Path(file).read_bytes()).decode() for file in flags[1::2]]
    answer = ask(model, picture.read_bytes(), {"reference": ",".join(text)})
    assert answer["error"] is None
    assert answer["picture"] == out.read_bytes()
    assert answer["picture"] != ask(model, picture.read_bytes(), {})["picture"]


def test_a_reference_without_colors_fails_the_request(model: ColorizerModel) -> None:
    gray = base64.b64encode(png(np.full((9, 9, 3), 90, np.uint8))).decode()
    with pytest.raises(MlflowException, match=r"params: reference.0: found a gray picture"):
        ask(model, png(photo(20, 20)), {"reference": gray})
