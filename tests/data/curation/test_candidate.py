import io
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from colorization.color import rgb_to_lab
from colorization.data.collection import Instance
from colorization.data.curation.candidate import Candidate, look
from colorization.data.curation.rules import CurationRules
from colorization.data.folder import FileCollection, FolderSource
from colorization.data.sample import SampleSource
from colorization.data.splits import digest_of
from colorization.instances import Box, Detection

ORIENTATION = 0x0112


@pytest.fixture(scope="module")
def photograph() -> np.ndarray:
    return SampleSource().open(0).train.picture(2)


def collect(folder: Path) -> FileCollection:
    return FolderSource.model_validate({"path": str(folder)}).collect()


def look_at(
    rgb: np.ndarray | Image.Image,
    folder: Path,
    name: str = "a.png",
    rules: CurationRules | None = None,
    **settings,
) -> tuple[Candidate, np.ndarray | None]:
    """Write a picture and look at it."""
    image = rgb if isinstance(rgb, Image.Image) else Image.fromarray(rgb)
    image.save(folder / name, **settings)
    return look(collect(folder), 0, 3, rules or CurationRules())


def toned(rgb: np.ndarray, red: float, green: float, blue: float) -> np.ndarray:
    gray = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)[..., None] / 255
    return np.rint(gray ** np.array([red, green, blue]) * 255).astype(np.uint8)


def test_a_photograph_is_kept_with_all_that_splitting_and_packing_take(
    tmp_path, photograph
) -> None:
    candidate, rgb = look_at(photograph, tmp_path)
    height, width = photograph.shape[:2]
    assert rgb is not None
    np.testing.assert_array_equal(rgb, photograph)
    assert (candidate.source, candidate.name) == (3, "a.png")
    assert (candidate.dropped, candidate.reason) == (None, "")
    assert candidate.original == candidate.size == (width, height)
    assert candidate.digest == digest_of((tmp_path / "a.png").read_bytes()).hex()
    assert candidate.digest == collect(tmp_path).digest(0).hex()
    assert len(candidate.content) == 32
    thumbnail = np.frombuffer(bytes.fromhex(candidate.thumbnail), np.uint8).reshape(64, 3)
    assert thumbnail.mean(0) == pytest.approx(photograph.mean((0, 1)), abs=1)


def test_the_sums_of_colors_are_those_of_the_packed_pixels(tmp_path, photograph) -> None:
    candidate, rgb = look_at(photograph, tmp_path, rules=CurationRules(size=32))
    assert rgb is not None
    lab = rgb_to_lab(torch.from_numpy(rgb).permute(2, 0, 1)).double().flatten(1)
    pixels, *sums = candidate.color
    assert pixels == lab.shape[1] == rgb.shape[0] * rgb.shape[1]
    assert sums[:3] == pytest.approx(lab.sum(1).tolist())
    assert sums[3:] == pytest.approx((lab**2).sum(1).tolist())


def test_a_candidate_survives_json(tmp_path, photograph) -> None:
    kept, _ = look_at(photograph, tmp_path)
    for candidate in (kept, Candidate(0, "é\udcff", dropped="unreadable", reason="r")):
        text = json.dumps(candidate.to_json())
        assert Candidate.from_json(json.loads(text)) == candidate


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_larger_pictures_are_shrunk_by_their_short_side_and_keep_their_true_size(
    tmp_path, photograph, suffix
) -> None:
    large = cv2.resize(photograph, (601, 400), interpolation=cv2.INTER_CUBIC)
    candidate, rgb = look_at(large, tmp_path, "a" + suffix, CurationRules(size=40))
    assert rgb is not None
    assert candidate.original == (601, 400)
    assert candidate.size == (60, 40)
    assert rgb.shape == (40, 60, 3)
    wanted = cv2.resize(large, (60, 40), interpolation=cv2.INTER_AREA)
    assert np.abs(rgb.astype(int) - wanted).mean() < 6


def test_sizes_are_those_of_the_picture_as_it_is_seen(tmp_path, photograph) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    large = cv2.resize(photograph, (600, 400))
    for name in ("a.jpg", "a.png"):
        folder = tmp_path / name
        folder.mkdir()
        candidate, _ = look_at(large, folder, name, CurationRules(size=100), exif=exif)
        assert candidate.original == (400, 600), name
        assert candidate.size == (100, 150), name


def test_smaller_pictures_stay_as_they_are(tmp_path, photograph) -> None:
    small = np.ascontiguousarray(photograph[:20, :30])
    candidate, rgb = look_at(small, tmp_path)
    assert candidate.size == (30, 20)
    np.testing.assert_array_equal(rgb, small)


def test_what_cannot_be_read_is_a_result_and_no_error(tmp_path) -> None:
    (tmp_path / "a.jpg").write_text("hello")
    (tmp_path / "b.jpg").write_bytes(b"")
    (tmp_path / "c.jpg").write_bytes(b"\xff\xd8\xff\xe0" + bytes(100))
    pictures = collect(tmp_path)
    (tmp_path / "b.jpg").unlink()
    for index, words in enumerate(("text", "no such file", "")):
        candidate, rgb = look(pictures, index, 0, CurationRules())
        assert rgb is None
        assert (candidate.dropped, candidate.content) == ("unreadable", "")
        assert words in candidate.reason


def test_pictures_below_the_least_width_or_height_are_too_small(tmp_path, photograph) -> None:
    tall = np.ascontiguousarray(photograph[:100, :60])
    for rules, dropped in [
        ({"min_width": 61}, "too_small"),
        ({"min_height": 101}, "too_small"),
        ({"min_width": 60, "min_height": 100}, None),
    ]:
        candidate, _ = look_at(tall, tmp_path, rules=CurationRules.model_validate(rules))
        assert candidate.dropped == dropped
        assert dropped is None or "60 x 100" in candidate.reason


@pytest.mark.parametrize("mode", ["1", "L", "LA", "I;16"])
def test_files_of_one_channel_have_brightness_only_by_their_kind(
    tmp_path, photograph, mode
) -> None:
    gray = Image.fromarray(photograph).convert("L")
    if mode == "I;16":
        gray = Image.fromarray(np.asarray(gray).astype(np.uint16) * 257)
    else:
        gray = gray.convert(mode)
    candidate, rgb = look_at(gray, tmp_path)
    assert rgb is None
    assert candidate.dropped == "brightness_only"
    assert f"mode {mode}" in candidate.reason
    assert candidate.content


def test_gray_stored_as_color_has_brightness_only(tmp_path, photograph) -> None:
    gray = np.repeat(cv2.cvtColor(photograph, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)
    candidate, _ = look_at(gray, tmp_path, "a.jpg")
    assert candidate.dropped == "brightness_only"
    assert "chroma" in candidate.reason
    candidate, _ = look_at(gray, tmp_path, "a.jpg", CurationRules(min_chroma=0, min_free_color=0))
    assert candidate.dropped is None


@pytest.mark.parametrize("tone", [(0.9, 1.0, 1.15), (1.1, 1.0, 0.9)], ids=["sepia", "blue"])
def test_gray_of_one_tone_has_brightness_only_unless_it_is_wanted(
    tmp_path, photograph, tone
) -> None:
    candidate, _ = look_at(toned(photograph, *tone), tmp_path, "a.jpg")
    assert candidate.dropped == "brightness_only"
    assert "toned" in candidate.reason
    rules = CurationRules(min_free_color=0)
    assert look_at(toned(photograph, *tone), tmp_path, "a.jpg", rules)[0].dropped is None


def test_color_photographs_have_more_than_brightness(tmp_path) -> None:
    train = SampleSource().open(0).train
    for index in range(8):
        assert look_at(train.picture(index), tmp_path)[0].dropped is None, train.name(index)


class EverywhereACat:
    def find(self, rgb: np.ndarray) -> list[Detection]:
        height, width = rgb.shape[:2]
        mask = np.zeros((height, width), bool)
        mask[: -(-height * 4 // 10)] = True
        return [Detection("cat", 0.6, Box(0, 0, width, height), mask)]


def test_what_is_wanted_is_asked_of_detections_before_the_detector(tmp_path, photograph) -> None:
    Image.fromarray(photograph).save(tmp_path / "a.png")
    pictures = collect(tmp_path)
    cats = CurationRules(wanted=("cat",), min_share=0.3, min_score=0.6)
    dogs = CurationRules(wanted=("dog",))
    dog = {"a.png": [Instance("dog", 0.5, 0.9)]}

    def dropped(rules: CurationRules, **known) -> str | None:
        return look(pictures, 0, 0, rules, **known)[0].dropped

    detector = EverywhereACat()
    assert dropped(cats, detector=detector) is None
    assert dropped(dogs, detector=detector) == "no_wanted_instance"
    assert dropped(dogs, detector=detector, detections=dog) is None
    assert dropped(cats, detector=detector, detections=dog) == "no_wanted_instance"
    assert dropped(cats, detections={}) == "no_wanted_instance"
    assert dropped(cats) == "no_wanted_instance"
    assert dropped(CurationRules(), detections={}) is None


def test_damage_behind_the_header_is_unreadable(tmp_path, photograph) -> None:
    buffer = io.BytesIO()
    Image.fromarray(photograph).save(buffer, "PNG")
    (tmp_path / "a.png").write_bytes(buffer.getvalue()[:-2000])
    assert look(collect(tmp_path), 0, 0, CurationRules())[0].dropped == "unreadable"
