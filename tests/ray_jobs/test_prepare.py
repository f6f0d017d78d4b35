"""prepare.py as a person runs it: what it keeps, drops, writes, and survives."""

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from colorization.data import DataConfig, open_data
from study_commands import Done, Place, new_place

SIDE = 48


def crops(count: int) -> list[np.ndarray]:
    """Return square crops of the sample photographs, no two of one place."""
    pictures = open_data(DataConfig()).train
    return [np.ascontiguousarray(pictures.picture(index)) for index in range(count)]


def fill(folder: Path) -> None:
    """Write 40 photographs in color, and one of everything that is to be dropped."""
    folder.mkdir(parents=True)
    for number, rgb in enumerate(crops(40)):
        Image.fromarray(rgb).save(folder / f"photo {number:02}.png")
    gray = Image.open(folder / "photo 00.png").convert("L")
    gray.save(folder / "one channel.jpg")
    gray.convert("RGB").save(folder / "colorless.png")
    Image.open(folder / "photo 01.png").resize((20, 20)).save(folder / "small.png")
    shutil.copy(folder / "photo 02.png", folder / "ящик копия.png")
    whole = (folder / "photo 03.png").read_bytes()
    (folder / "truncated.png").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.jpg").touch()
    (folder / "letter.jpg").write_text("dear all")
    (folder / "circle.jpg").symlink_to("circle.jpg")
    os.mkfifo(folder / "pipe.jpg")
    Path(os.fsdecode(bytes(folder / "caf") + b"\xe9.jpg")).write_bytes(b"no picture")
    Image.open(folder / "photo 04.png").save(folder / "again.jpg", quality=90)


DROPPED = {
    "one channel.jpg": "brightness_only",
    "colorless.png": "brightness_only",
    "small.png": "too_small",
    "ящик копия.png": "duplicate",
    "truncated.png": "unreadable",
    "empty.jpg": "unreadable",
    "letter.jpg": "unreadable",
    "circle.jpg": "unreadable",
    "pipe.jpg": "unreadable",
    "caf\udce9.jpg": "unreadable",
}
SETTINGS = (f"size={SIDE}", "min_width=24", "split=0.6/0.2/0.2")


def wait_for(folder: Path, pattern: str, process: "subprocess.Popen[str]") -> None:
    """Wait until a process that goes on has written such a file."""
    while not list(folder.glob(pattern)):
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.02)


def manifest_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "manifest.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with new_place(tmp_path_factory.mktemp("prepare")) as place:
        yield place


@pytest.fixture(scope="module")
def photos(place: Place) -> Path:
    fill(place.folder / "photos")
    return place.folder / "photos"


@pytest.fixture(scope="module")
def out(place: Place) -> Path:
    return place.folder / "prepared"


@pytest.fixture(scope="module")
def prepared(place: Place, photos: Path, out: Path) -> Done:
    return place.run("prepare.py", str(photos), "--out", str(out), "--licence", "CC0", *SETTINGS)


def test_what_is_no_good_is_dropped_for_its_reason_and_the_counts_add_up(
    prepared: Done, out: Path
) -> None:
    assert prepared.code == 0, prepared.output
    manifest = manifest_of(out)
    found = {p["name"]: p for p in manifest["pictures"]}
    assert {name: p["dropped"] for name, p in found.items() if p["dropped"]} == DROPPED
    assert all(p["reason"] for p in found.values() if p["dropped"])
    assert "photo 02.png" in found["ящик копия.png"]["reason"]
    counts = manifest["counts"]
    assert counts["found"] == len(found) == 51
    kept = counts["train"] + counts["validation"] + counts["test"]
    assert kept + sum(counts["dropped"].values()) == 51
    assert counts["dropped"] == {
        "brightness_only": 2,
        "duplicate": 1,
        "too_small": 1,
        "unreadable": 6,
    }
    assert manifest["sources"][0]["licence"] == "CC0"
    assert "51 pictures in" in prepared.output


def test_near_duplicates_share_a_split(prepared: Done, out: Path) -> None:
    found = {p["name"]: p["split"] for p in manifest_of(out)["pictures"]}
    assert found["again.jpg"] == found["photo 04.png"]


def test_the_packed_set_is_read_in_ten_lines_without_our_library(
    prepared: Done, out: Path, photos: Path
) -> None:
    manifest = manifest_of(out)
    read = 0
    for picture in manifest["pictures"]:
        if picture["split"]:
            shard = np.load(out / picture["shard"], mmap_mode="r")
            content = shard[picture["offset"] : picture["offset"] + picture["bytes"]]
            width, height = picture["size"]
            rgb = content.reshape(height, width, 3)
            truth = Image.open(photos / picture["name"]).convert("RGB").resize((width, height))
            assert np.abs(rgb.astype(int) - np.asarray(truth)).mean() < 8
            read += 1
    assert read == 41


def test_a_packed_set_is_a_source_with_the_manifests_hash_and_statistics(
    prepared: Done, out: Path
) -> None:
    source = {"name": "packed", "path": str(out)}
    sets = open_data(DataConfig.model_validate({"source": source, "size": SIDE}))
    manifest = manifest_of(out)
    assert sets.fingerprint == manifest["hash"]
    ab = np.concatenate(
        [np.asarray(sets.train.picture(i)).reshape(-1, 3) / 255.0 for i in range(len(sets.train))]
    )
    assert len(ab) == manifest["statistics"]["pixels"]
    assert sets.statistics is not None
    from skimage.color import rgb2lab

    truth = rgb2lab(ab[None])[0, :, 1:] / 110
    assert np.allclose(sets.statistics.mean, truth.mean(0), atol=1e-4)
    assert np.allclose(sets.statistics.deviation, truth.std(0), atol=1e-4)


def test_a_contact_sheet_shows_what_was_kept_and_dropped(prepared: Done, out: Path) -> None:
    with Image.open(out / "contact-sheet.jpg") as sheet:
        assert min(sheet.size) > 200


def test_a_second_run_changes_nothing(
    prepared: Done, place: Place, photos: Path, out: Path
) -> None:
    before = {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in out.iterdir()}
    again = place.run("prepare.py", str(photos), "--out", str(out), "--licence", "CC0", *SETTINGS)
    assert again.code == 0
    assert "prepared already" in again.output
    assert {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in out.iterdir()} == before


@pytest.mark.slow
def test_damaged_shards_are_made_again_and_files_of_others_stay(
    prepared: Done, place: Place, photos: Path, out: Path
) -> None:
    before = manifest_of(out)
    shard = out / before["shards"][0]["file"]
    whole = shard.read_bytes()
    shard.write_bytes(whole[:5000] + bytes(4000) + whole[9000:])
    (out / "train-labels.npy").write_bytes(b"mine")
    (out / f".{'0' * 32}.part").write_bytes(b"half")
    again = place.run("prepare.py", str(photos), "--out", str(out), "--licence", "CC0", *SETTINGS)
    assert again.code == 0, again.output
    assert shard.read_bytes() == whole
    assert manifest_of(out)["hash"] == before["hash"]
    assert (out / "train-labels.npy").read_bytes() == b"mine"
    assert not list(out.glob("*.part"))


def test_other_settings_in_the_same_folder_are_refused(
    prepared: Done, place: Place, photos: Path, out: Path
) -> None:
    done = place.run("prepare.py", str(photos), "--out", str(out), "size=32", *SETTINGS[1:])
    assert done.code == 2
    assert f"prepared with size={SIDE}, found size=32" in done.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--out", "x"], "no SOURCE"),
        (["photos"], "--out"),
        (["photos", "--out", "x", "sise=3"], "sise"),
        (["nowhere", "--out", "x"], "no folder .*nowhere"),
        (["photos", "--out", "x", "split=0.5/0.1/0.1"], "split"),
        (["{name: sample}", "--out", "x"], "sample"),
        (["{name: foldr, path: y}", "--out", "x"], "foldr"),
        (["{name: folder, path: photos, split: 0.7/0.3}", "--out", "x"], "split=.* beside"),
        (["photos", "--out", "photos/packed"], "lies within the source"),
        (["photos", "--out", "photos/empty.jpg"], "is a file"),
        (["photos", "--out", "x", "detections=seen.jsonl"], "name some"),
        (["photos", "--out", "x", "wanted=[cat]"], "nobody says what is in"),
        (["photos", "--out", "x", "wanted=[cat]", "detections=no.jsonl"], "no.jsonl"),
        (["photos", "--out", "x", "wanted=[cow]", "detections=seen.jsonl"], "'cow', .*cat"),
    ],
)
def test_a_wrong_word_is_named_before_anything_starts(
    words: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import prepare

    fill(tmp_path / "photos")
    line = {"name": "photo 01.png", "instances": [{"label": "cat", "share": 0.5}]}
    (tmp_path / "seen.jsonl").write_text(json.dumps(line))
    monkeypatch.chdir(tmp_path)
    assert prepare.main(words) == 2
    assert re.search(message, capsys.readouterr().err)


@pytest.mark.slow
def test_killed_in_the_middle_and_started_again_it_makes_the_same_set(tmp_path: Path) -> None:
    with new_place(tmp_path) as place:
        photos = place.folder / "photos"
        photos.mkdir()
        rng = np.random.default_rng(0)
        for number in range(1500):  # several chunks
            pixels = rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)
            Image.fromarray(pixels).resize((96, 96)).save(photos / f"{number}.png")
        undisturbed = place.folder / "undisturbed"
        assert place.run("prepare.py", str(photos), "--out", str(undisturbed)).code == 0
        one_worker = place.folder / "one"
        words = ["prepare.py", str(photos), "--out", str(one_worker), "--workers", "1"]
        process = place.start(*words)
        wait_for(one_worker / ".parts", "*.json", process)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        done = len(list((one_worker / ".parts").glob("*.json")))
        assert 0 < done < 6
        again = place.run("prepare.py", str(photos), "--out", str(one_worker), "--workers", "4")
        assert again.code == 0, again.output
        first, second = manifest_of(undisturbed), manifest_of(one_worker)
        assert first["hash"] == second["hash"]
        assert first["statistics"] == second["statistics"]
        assert not (one_worker / ".parts").exists()


@pytest.mark.slow
def test_added_pictures_join_and_leave_the_others_where_they_were(tmp_path: Path) -> None:
    with new_place(tmp_path) as place:
        photos, out = place.folder / "photos", place.folder / "out"
        fill(photos)
        words = ["prepare.py", str(photos), "--out", str(out), *SETTINGS]
        assert place.run(*words).code == 0
        before = manifest_of(out)
        for number, rgb in enumerate(crops(60)[40:]):
            Image.fromarray(rgb).save(photos / f"added {number:02}.png")
        again = place.run(*words)
        assert again.code == 0, again.output
        after = manifest_of(out)
        split = {p["name"]: p["split"] for p in after["pictures"]}
        assert after["counts"]["found"] == 71
        assert after["hash"] != before["hash"]
        moved = {move["name"] for move in after["moved"]}
        for picture in before["pictures"]:
            stays = split[picture["name"]] == picture["split"]
            assert stays or f"0/{picture['name']}" in moved
        shards = {shard["file"] for shard in after["shards"]}
        assert {path.name for path in out.glob("*.npy")} == shards


@pytest.mark.slow
def test_a_killed_worker_loses_nothing(tmp_path: Path) -> None:
    with new_place(tmp_path) as place:
        fill(place.folder / "photos")
        for number in range(600):
            shutil.copy(
                place.folder / "photos" / "photo 05.png", place.folder / "photos" / f"c{number}.png"
            )
        out = place.folder / "out"
        process = place.start(
            "prepare.py", str(place.folder / "photos"), "--out", str(out), *SETTINGS
        )
        wait_for(out / ".parts", "*.log", process)
        workers = [pid for pid, title in place.processes().items() if "MapWorker" in title]
        assert workers
        os.kill(workers[0], signal.SIGKILL)
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0, output
        counts = manifest_of(out)["counts"]
        assert counts["found"] == 651
        assert counts["dropped"]["duplicate"] == 601
