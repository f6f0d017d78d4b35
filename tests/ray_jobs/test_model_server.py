"""`mlflow models serve` for real: the same pictures as elsewhere, errors that name the fault."""

import base64
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from bombs import bomb
from champion import ALIAS
from model_server import ModelServer
from registered_models import NAME, Trained, register_again, train
from registry import load_registered
from study_commands import new_place

# isort: split
from mlflow import MlflowClient

JSON = "application/json"
pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Served:
    """A champion behind a server."""

    server: ModelServer
    trained: Trained


@pytest.fixture(scope="module")
def served(
    tmp_path_factory: pytest.TempPathFactory, new_store: Callable[[Path], str]
) -> Iterator[Served]:
    trained = train(tmp_path_factory.mktemp("served"), new_store)
    version = register_again(trained)
    MlflowClient(trained.uri).set_registered_model_alias(NAME, ALIAS, version)
    with ModelServer(f"models:/{NAME}@{ALIAS}", trained.uri, trained.folder) as server:
        yield Served(server, trained)


def encode(rgb: np.ndarray, kind: str = "PNG") -> bytes:
    buffer = BytesIO()
    Image.fromarray(rgb).save(buffer, kind)
    return buffer.getvalue()


def ramp(height: int, width: int) -> np.ndarray:
    return np.tile(np.linspace(0, 255, width, dtype=np.uint8)[None, :, None], (height, 1, 3))


def test_command_line_job_pyfunc_and_server_make_the_same_bytes(
    served: Served, tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    pictures = {"a.png": ramp(150, 203), "b.jpg": ramp(64, 33), "c.tif": ramp(9, 300)}
    for name, rgb in pictures.items():
        Image.fromarray(rgb).save(photos / name)
    model, uri = f"models:/{NAME}@{ALIAS}", served.trained.uri
    flags = ["--saturation", "1.5", "--gain", "auto"]
    params = {"saturation": 1.5, "gain": "auto"}
    with new_place(tmp_path / "place") as place:
        one_thread = {"OMP_NUM_THREADS": "1"}
        line = [sys.executable, "-m", "colorization", "colorize", str(served.trained.run)]
        words = [str(photos), "-o", str(tmp_path / "line"), *flags]
        environment = place.environment(one_thread)
        done = subprocess.run([*line, *words], env=environment, check=False)
        assert done.returncode == 0
        job = ["--model", model, "--tracking-uri", uri, str(photos), str(tmp_path / "job")]
        ran = place.run("colorize.py", *job, *flags, "--actors", "1", env=one_thread)
        assert ran.code == 0, ran.output
    expected = {name: (tmp_path / "line" / name).read_bytes() for name in pictures}
    assert {name: (tmp_path / "job" / name).read_bytes() for name in pictures} == expected
    data = [(photos / name).read_bytes() for name in pictures]
    table = load_registered(model, uri).predict(pd.DataFrame({"picture": data}), params=params)
    assert table["picture"].tolist() == list(expected.values())
    status, rows = served.server.color(data, params)
    assert status == 200
    assert [base64.b64decode(row["picture"]) for row in rows] == list(expected.values())


def test_bad_pictures_are_named_row_by_row_and_good_ones_among_them_are_colored(
    served: Served,
) -> None:
    whole = encode(ramp(40, 60))
    bad = [b"hello, I am no picture", whole[: len(whole) // 2], b"", bomb(), b"%PDF-1.4 ..."]
    status, rows = served.server.color([whole, *bad, whole])
    assert status == 200
    errors = [row["error"] for row in rows]
    assert errors[0] is errors[-1] is None
    assert rows[0]["picture"] == rows[-1]["picture"]
    assert Image.open(BytesIO(base64.b64decode(rows[0]["picture"]))).size == (60, 40)
    words = ["found text", "damaged", "empty", "12000 x 12000 pixels", "a PDF document"]
    for number, (row, word) in enumerate(zip(rows[1:-1], words, strict=True), start=1):
        assert row["picture"] is None
        assert row["error"].startswith(f"row {number}: ")
        assert word in row["error"]


@pytest.mark.parametrize(
    ("params", "word"),
    [
        ({"saturatoin": 2}, "unknown: 'saturatoin'"),
        ({"saturation": 9}, "saturation: found 9"),
        ({"saturation": "much"}, "saturation"),
        ({"samples": 2}, "this model draws nothing"),
        ({"foreground": "persn"}, "found 'persn'"),
        ({"mask": "AAAA"}, "the mask"),
        ({"mask": "/etc/passwd"}, "mask: found text that is no base64"),
        ({"gain": [1, 2]}, "gain"),
    ],
)
def test_wrong_params_fail_their_request_by_name(
    served: Served, params: dict[str, object], word: str
) -> None:
    status, error = served.server.color([encode(ramp(9, 9))], params)
    assert status == 400
    assert word in error["message"]


@pytest.mark.parametrize(
    ("body", "content", "statuses"),
    [
        (b"not json", JSON, {400}),
        (b"{}", JSON, {400}),
        (b'{"inputs": {"pictures": ["AAAA"]}}', JSON, {400}),
        (
            b'{"dataframe_split": {"columns": ["picture"], "data": [[7]]}}',
            "application/json",
            {400},
        ),
        (b"\x89PNG", "image/png", {415}),
    ],
)
def test_requests_of_another_kind_are_refused(
    served: Served, body: bytes, content: str, statuses: set[int]
) -> None:
    status, answer = served.server.post(body, content)
    assert status in statuses, answer
    status, rows = served.server.color([encode(ramp(9, 9))])
    assert status == 200, "the server is harmed"
    assert rows[0]["error"] is None


def test_a_mask_travels_as_base64_in_its_param(served: Served) -> None:
    black = base64.b64encode(encode(np.zeros((4, 6, 3), np.uint8))).decode()
    status, rows = served.server.color([encode(ramp(40, 60))], {"mask": black})
    assert status == 200
    rgb = np.asarray(Image.open(BytesIO(base64.b64decode(rows[0]["picture"])))).astype(int)
    assert np.ptp(rgb, axis=2).max() <= 1
    status, rows = served.server.color([encode(ramp(40, 40))], {"mask": black})
    assert status == 200
    assert "row 0: the mask has 6 x 4 pixels, the picture 40 x 40" in rows[0]["error"]
    json.dumps(rows)
