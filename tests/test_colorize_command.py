import os
import pty
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from colorization import colorize_files
from colorization.__main__ import main
from colorization.config import parse
from colorization.experiment import Experiment
from colorization.pictures import read_picture, replace_file
from full_disk import full_disk
from sepia import lightness_of, photo
from small_recipe import read_small_recipe
from tiny_experiment import TINY
from untrained import write_export

Out = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model of one answer."""
    experiment = parse(Experiment, yaml.safe_load(TINY))
    return str(write_export(experiment, tmp_path_factory.mktemp("gan")))


@pytest.fixture(scope="module")
def drawing(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model that draws."""
    return str(
        write_export(
            parse(Experiment, read_small_recipe("naive_cvae")), tmp_path_factory.mktemp("cvae")
        )
    )


@pytest.fixture(scope="module")
def flow(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model that tells what it would have to draw."""
    experiment = parse(Experiment, read_small_recipe("cinn"))
    return str(write_export(experiment, tmp_path_factory.mktemp("cinn")))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four pictures of several sizes."""
    (tmp_path / "in").mkdir()
    for number, size in enumerate([(40, 50), (60, 45), (33, 33), (80, 100)]):
        Image.fromarray(photo(*size)).save(tmp_path / "in" / f"{number}.png")
    return tmp_path / "in"


def pixels(folder: Path) -> dict[str, np.ndarray]:
    return {path.name: read_picture(path).rgb for path in sorted(folder.iterdir())}


def run(model: str, source: Path, out: Path, *words: str) -> int:
    return main(["colorize", model, str(source), "-o", str(out), *words])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--samples", "2"], "samples: found 2; this model draws nothing"),
        (["--temperature", "0.5"], "temperature: found 0.5; this model draws nothing"),
        (["--samples", "many"], "--samples: found 'many'"),
        (["--saturation", "-1"], "--saturation: found"),
        (["--gain", "0"], "--gain: found '0'; auto or a number"),
        (["--upsampling", "nearest"], "--upsampling: found 'nearest'"),
        (["--batch", "0"], "--batch: found 0; auto or 1 to 256"),
        (["--workers", "0"], "--workers: found 0; 1 to 64"),
        (["--seed", "1e30"], "--seed: found"),
    ],
)
def test_options_that_mean_nothing_are_named_before_anything_is_written(
    words: list[str], message: str, model: str, folder: Path, tmp_path: Path, capsys: Out
) -> None:
    assert run(model, folder, tmp_path / "out", *words) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_batches_and_workers_change_no_result(model: str, folder: Path, tmp_path: Path) -> None:
    (folder / "broken.png").write_bytes(b"")
    assert run(model, folder, tmp_path / "alone") == 1
    expected = pixels(tmp_path / "alone")
    assert len(expected) == 4
    ways = {"batch": ["--batch", "auto"], "workers": ["--workers", "2", "--batch", "2"]}
    for name, words in ways.items():
        assert run(model, folder, tmp_path / name, *words) == 1
        found = pixels(tmp_path / name)
        assert found.keys() == expected.keys()
        for file, rgb in found.items():
            assert np.abs(rgb.astype(int) - expected[file]).max() <= 1, (name, file)


def test_options_reach_the_picture(model: str, folder: Path, tmp_path: Path, capsys: Out) -> None:
    source = folder / "3.png"
    ways = {
        "plain": [],
        "pale": ["--saturation", "0"],
        "gain": ["--gain", "0.5"],
        "auto": ["--gain", "auto"],
        "bicubic": ["--upsampling", "bicubic"],
        "bilateral": ["--upsampling", "bilateral"],
        "tile": ["--tile"],
    }
    for name, words in ways.items():
        assert run(model, source, tmp_path / f"{name}.png", *words) == 0
    found = {name: read_picture(tmp_path / f"{name}.png").rgb for name in ways}
    for rgb in found.values():
        assert np.abs(lightness_of(rgb) - lightness_of(photo(80, 100))).max() < 0.26
    assert np.ptp(found["pale"].astype(int), axis=2).max() <= 1
    assert np.array_equal(found["auto"], found["plain"])  # is neither dark nor pale
    for name in ("pale", "gain", "bicubic", "bilateral", "tile"):
        assert not np.array_equal(found[name], found["plain"]), name


def test_samples_are_drawn_again_alike_and_otherwise_by_another_seed(
    drawing: str, folder: Path, tmp_path: Path
) -> None:
    source = folder / "0.png"
    ways = {"a": [], "b": [], "c": ["--seed", "1"], "mean": ["--temperature", "0"]}
    for name, words in ways.items():
        assert run(drawing, source, tmp_path / name, "--samples", "2", *words) == 0
    a, b, c, mean = (pixels(tmp_path / name) for name in ("a", "b", "c", "mean"))
    assert list(a) == ["0.1.png", "0.2.png", "0.samples.jpg"]
    assert all(np.array_equal(a[name], b[name]) for name in a)
    assert not np.array_equal(a["0.1.png"], a["0.2.png"])
    assert not np.array_equal(a["0.1.png"], c["0.1.png"])
    assert np.array_equal(mean["0.1.png"], mean["0.2.png"])


def test_pictures_take_the_colors_of_references_and_are_made_anew_for_others(
    flow: str, folder: Path, tmp_path: Path, capsys: Out
) -> None:
    for name, tone in (("red", (200, 40, 30)), ("blue", (30, 60, 200))):
        shaded = photo(50, 50).mean(2, keepdims=True) / 255 * np.array(tone)
        Image.fromarray(shaded.astype(np.uint8)).save(tmp_path / f"{name}.png")
    reference = tmp_path / "reference.png"
    means: list[np.ndarray] = []
    for name in ("red", "blue"):
        replace_file(reference, (tmp_path / f"{name}.png").read_bytes())
        words = ["--reference", str(reference), "--samples", "2"]
        assert run(flow, folder, tmp_path / "out", *words) == 0
        assert "4 colorized, 0 left out" in capsys.readouterr().out
        assert run(flow, folder, tmp_path / "out", *words) == 0
        assert "0 colorized, 4 finished before" in capsys.readouterr().out
        means.append(read_picture(tmp_path / "out" / "0.1.png").rgb.mean((0, 1)))
    assert means[0][0] > means[0][2] + 30
    assert means[1][2] > means[1][0] + 30


def test_a_reference_is_refused_by_a_model_that_cannot_follow_it_before_a_picture_is_read(
    drawing: str, folder: Path, tmp_path: Path, capsys: Out
) -> None:
    words = ["--reference", str(folder / "0.png")]
    for workers in ("1", "2"):
        assert (
            run(drawing, tmp_path / "nowhere", tmp_path / "out", *words, "--workers", workers) == 2
        )
        said = capsys.readouterr().err
        assert said.startswith("reference: found 1; this model, a CVAE, cannot tell what has to be")
        assert said.endswith("leave reference out, or take a cinn model\n")


def test_a_second_call_does_what_is_left(
    model: str, folder: Path, tmp_path: Path, capsys: Out
) -> None:
    assert run(model, folder, tmp_path / "out") == 0
    assert "4 colorized, 0 left out" in capsys.readouterr().out
    (tmp_path / "out" / "2.png").unlink()
    assert run(model, folder, tmp_path / "out") == 0
    assert "1 colorized, 3 finished before, 0 left out" in capsys.readouterr().out
    assert run(model, folder, tmp_path / "out", "--overwrite", "--compare", "split") == 0
    assert "4 colorized, 0 left out" in capsys.readouterr().out  # pictures, of two files each


def test_hostile_files_are_named_at_the_end_and_harm_nothing_else(
    model: str, folder: Path, tmp_path: Path, capsys: Out
) -> None:
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "page.png").write_text("<!doctype html><p>not found")
    whole = (folder / "3.png").read_bytes()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "link.png").symlink_to(folder / "gone.png")
    (folder / "folder.png").mkdir()
    os.mkfifo(folder / "pipe.jpg")
    bomb = bytearray((folder / "0.png").read_bytes())
    bomb[16:24] = (60_000).to_bytes(4, "big") * 2
    (folder / "bomb.png").write_bytes(bytes(bomb))
    assert run(model, folder, tmp_path / "out") == 1
    said = capsys.readouterr().out.splitlines()
    assert said[-1] == "4 colorized, 6 left out"
    reasons = "\n".join(said[-7:-1])
    for name in ("empty.jpg", "page.png", "cut.png", "link.png", "pipe.jpg", "bomb.png"):
        assert str(folder / name) in reasons
    assert sorted(pixels(tmp_path / "out")) == ["0.png", "1.png", "2.png", "3.png"]


def test_a_full_disk_names_the_file_and_what_was_done(
    model: str, folder: Path, tmp_path: Path, capsys: Out
) -> None:
    out = tmp_path / "out"
    assert run(model, folder, out) == 0
    sizes = {path.name: path.stat().st_size for path in out.iterdir()}
    largest = sizes.pop("3.png")
    assert max(sizes.values()) < largest
    (out / "3.png").unlink()
    capsys.readouterr()
    with full_disk(largest - 1):
        assert run(model, folder, out) == 2
    told = capsys.readouterr()
    assert told.err == f"{out / '3.png'}: File too large\n"
    assert told.out.splitlines()[-1].endswith("3 finished before, 0 left out, 1 not tried")
    assert sorted(path.name for path in out.iterdir()) == ["0.png", "1.png", "2.png"]


def test_ctrl_c_leaves_what_was_done_and_says_it(
    model: str, folder: Path, tmp_path: Path, capsys: Out, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop_at_the_third(path: Path, content: bytes) -> None:
        if path.name == "2.png":
            raise KeyboardInterrupt
        replace_file(path, content)

    monkeypatch.setattr(colorize_files, "replace_file", stop_at_the_third)
    (folder / "00.png").touch()
    assert run(model, folder, tmp_path / "out") == 130
    told = capsys.readouterr()
    assert told.err.startswith("stopped; the same command goes on")
    named, summary = told.out.splitlines()[-2:]
    assert "00.png" in named
    assert summary == "2 colorized, 1 left out, 2 not tried"


@pytest.mark.parametrize("empty", [0, 1, 3])
def test_an_empty_word_is_no_path(empty: int, tmp_path: Path, capsys: Out) -> None:
    words = ["model", "in", "-o", "out"]
    words[empty] = ""
    with pytest.raises(SystemExit) as caught:
        main(["colorize", *words])
    assert caught.value.code == 2
    assert "found nothing, a path is needed" in capsys.readouterr().err


@pytest.mark.slow
def test_on_a_terminal_there_is_a_bar_with_rate_and_what_went_wrong_below(
    model: str, folder: Path, tmp_path: Path
) -> None:
    (folder / "empty.jpg").write_bytes(b"")
    ours, theirs = pty.openpty()
    words = [sys.executable, "-m", "colorization", "colorize", model, str(folder), "-o"]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    done = subprocess.Popen(
        [*words, str(tmp_path / "out")], stdout=theirs, stderr=theirs, env=environment
    )
    os.close(theirs)
    said = b""
    while True:
        try:
            part = os.read(ours, 4096)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        said += part
    assert done.wait() == 1
    text = said.decode()
    assert "5/5" in text
    assert "pictures/s" in text
    assert text.index("left out:") > text.index("5/5")
