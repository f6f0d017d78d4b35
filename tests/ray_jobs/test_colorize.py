"""colorize.py as a person runs it: the files of the command line, wherever they lie."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from registered_models import Trained, train
from study_commands import Place, new_place

pytestmark = pytest.mark.slow

OPTIONS = ("--saturation", "1.5", "--compare", "split")


@dataclass(frozen=True)
class Colored:
    """A folder of pictures, two of them no good, and what the command line made of it."""

    place: Place
    trained: Trained
    photos: Path
    expected: dict[str, bytes]


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def colored(
    tmp_path_factory: pytest.TempPathFactory, new_store: Callable[[Path], str]
) -> Iterator[Colored]:
    with new_place(tmp_path_factory.mktemp("colorize")) as place:
        trained = train(place.folder / "trained", new_store)
        photos = place.folder / "photos"
        (photos / "below").mkdir(parents=True)
        generator = np.random.default_rng(0)
        for name in ("a.png", "b.jpg", "below/c.tif", "below/d.webp", "e.bmp"):
            pixels = generator.integers(0, 255, (40, 60, 3), np.uint8)
            Image.fromarray(pixels).save(photos / name)
        (photos / "letter.jpg").write_text("dear all")
        (photos / "below" / "empty.png").touch()
        command = [sys.executable, "-m", "colorization", "colorize", str(trained.run)]
        words = [str(photos), "-o", str(place.folder / "expected"), *OPTIONS]
        done = subprocess.run(
            [*command, *words], env=place.environment({"OMP_NUM_THREADS": "1"}), check=False
        )
        assert done.returncode == 1
        yield Colored(place, trained, photos, contents(place.folder / "expected"))


def test_a_folder_is_colored_byte_for_byte_as_by_the_command_line_and_once(
    colored: Colored,
) -> None:
    assert len(colored.expected) == 10
    out = colored.place.folder / "out"
    words = ["--model", str(colored.trained.run), str(colored.photos), str(out), *OPTIONS]
    first = colored.place.run("colorize.py", *words, "--actors", "1", "--batch", "2")
    assert first.code == 1, first.output
    assert contents(out) == colored.expected
    assert "5 colorized, 2 left out" in first.output
    for bad in ("letter.jpg", "empty.png"):
        assert bad in first.output
    again = colored.place.run("colorize.py", *words, "--actors", "1")
    assert "0 colorized, 5 finished before, 2 left out" in again.output
    assert contents(out) == colored.expected


def test_urls_are_read_and_written_and_files_finished_there_are_known(colored: Colored) -> None:
    out = colored.place.folder / "remote"
    words = ["--model", str(colored.trained.run), f"file://{colored.photos}", f"file://{out}"]
    first = colored.place.run("colorize.py", *words, *OPTIONS, "--actors", "1")
    assert first.code == 1, first.output
    assert contents(out) == colored.expected
    said = re.sub(r"[\s│]+", "", first.output)  # of a table, whose cells are folded
    assert f"file://{colored.photos}/letter.jpg:foundtext" in said
    again = colored.place.run("colorize.py", *words, *OPTIONS, "--actors", "1")
    assert "0 colorized, 5 finished before" in again.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model", "nowhere", "PHOTOS", "out"], "nowhere: there is no such folder"),
        (["--model", "RUN", "nowhere", "out"], "nowhere: no such picture or folder"),
        (["--model", "RUN", "file:///nowhere", "out"], "file:///nowhere"),
        (["--model", "RUN", "strange://x", "out"], "strange://x"),
        (["--model", "RUN", "file://PHOTOS", "file://PHOTOS/out"], "choose a place beside it"),
        (["--model", "RUN", "PHOTOS", "out", "--samples", "2"], "this model draws nothing"),
        (["--model", "RUN", "PHOTOS", "out", "--actors", "0"], "--actors: found 0, 1 at least"),
        (["--model", "RUN", "PHOTOS", "out", "--softness", "2"], "--softness: says how"),
    ],
)
def test_what_cannot_work_is_said_before_ray_is_started(
    colored: Colored, words: list[str], message: str
) -> None:
    known = {"RUN": str(colored.trained.run), "PHOTOS": str(colored.photos)}
    said = [word.replace("PHOTOS", known["PHOTOS"]).replace("RUN", known["RUN"]) for word in words]
    done = colored.place.run("colorize.py", *said)
    assert done.code == 2, done.output
    assert message in done.output.replace("\n", " ")


_KILLER = """
import os, signal, sys

def look(event, arguments):
    if event == "open" and str(arguments[0]).endswith("deadly.png"):
        os.kill(os.getpid(), signal.SIGKILL)

if any("default_worker" in word for word in sys.orig_argv):
    sys.addaudithook(look)
"""


def test_a_picture_whose_process_dies_each_time_costs_only_itself(colored: Colored) -> None:
    folder = colored.place.folder / "deadly"
    (folder / "code").mkdir(parents=True)
    (folder / "code/sitecustomize.py").write_text(_KILLER)
    pixels = np.zeros((40, 60, 3), np.uint8)
    for name in ("a.png", "deadly.png", "z.png"):
        Image.fromarray(pixels).save(folder / name)
    words = ["--model", str(colored.trained.run), str(folder), str(folder.with_name("alive"))]
    path = os.pathsep.join([str(folder / "code"), os.environ.get("PYTHONPATH", "")])
    done = colored.place.run(
        "colorize.py", *words, "--actors", "1", "--batch", "3", env={"PYTHONPATH": path}
    )
    assert done.code == 1, done.output
    assert sorted(contents(folder.with_name("alive"))) == ["a.png", "z.png"]
    assert "1 left out" in done.output
    assert "died, twice" in done.output.replace("\n", " ")
