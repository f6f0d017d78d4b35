from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from colorization.coloring import ColorOptions
from colorization.colorize_files import Outcome, colorize_files
from colorization.config import ConfigError
from colorization.inference import DamagedModel, PictureColorizer
from colorization.photographs import colorize_bytes
from colorization.pictures import read_picture
from full_disk import full_disk
from sepia import Drawing, SepiaByLightness, photo


@pytest.fixture
def colorizer() -> PictureColorizer:
    return PictureColorizer(SepiaByLightness(), 32)


def write(folder: Path, *names: str) -> None:
    folder.mkdir(exist_ok=True)
    for number, name in enumerate(names):
        Image.fromarray(np.roll(photo(20, 30), number, axis=1)).save(folder / name)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_folder_of_all_kinds_is_colorized_and_the_unreadable_one_named(
    colorizer: PictureColorizer, tmp_path: Path
) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    (source / "deep er").mkdir(parents=True)
    image = Image.fromarray(photo(41, 53))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.convert("L").save(source / "gray.png")
    image.convert("CMYK").save(source / "cmyk.jpg")
    image.save(source / "turned.JPG", exif=exif)
    veiled = image.copy()
    veiled.putalpha(image.convert("L"))
    veiled.save(source / "deep er" / "alpha.webp")
    image.save(source / "写真.gif")
    cv2.imwrite(str(source / "deep er" / "deep.tiff"), photo(41, 53, np.uint16))
    (source / "text.jpg").write_text("no picture")
    (source / "notes.txt").write_text("passed over")
    (source / ".hidden.png").write_text("passed over")

    told: dict[str, Outcome] = {}
    summary = colorize_files(
        colorizer,
        source,
        out,
        batch=3,
        on_done=lambda outcome: told.update({outcome.job.picture.name: outcome}),
    )

    written = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    assert written == {
        "gray.png",
        "cmyk.jpg",
        "turned.JPG",
        "deep er/alpha.webp",
        "写真.png",
        "deep er/deep.tiff",
    }
    assert {str(path.relative_to(out)) for path in summary.done} == written
    ((failed, reason),) = summary.failed
    assert failed == source / "text.jpg"
    assert "found text" in reason
    assert told["text.jpg"].state == "failed"
    assert told["写真.gif"].job.samples == (out / "写真.png",)
    assert len(told) == 7
    sizes = {path.name: read_picture(path).rgb.shape[:2] for path in summary.done}
    assert sizes.pop("turned.JPG") == (53, 41)
    assert set(sizes.values()) == {(41, 53)}
    assert read_picture(out / "deep er" / "deep.tiff").rgb.dtype == np.uint16
    assert read_picture(out / "deep er" / "alpha.webp").alpha is not None


@pytest.mark.parametrize(
    ("out", "expected"),
    [("new.png", "new.png"), ("folder", "folder/a.jpg"), ("v1.0", "v1.0/a.jpg")],
)
def test_one_picture_goes_to_a_file_or_into_a_folder(
    colorizer: PictureColorizer, tmp_path: Path, out: str, expected: str
) -> None:
    Image.fromarray(photo(20, 30)).save(tmp_path / "a.jpg")
    summary = colorize_files(colorizer, tmp_path / "a.jpg", tmp_path / out)
    assert summary.done == [tmp_path / expected]
    assert read_picture(tmp_path / expected).rgb.shape == (20, 30, 3)


def test_pictures_whose_outputs_would_share_a_name_keep_apart(
    colorizer: PictureColorizer, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a.gif", "a.bmp", "a.png"):
        Image.fromarray(photo(8, 8)).save(tmp_path / "in" / name)
    summary = colorize_files(colorizer, tmp_path / "in", tmp_path / "out")
    assert sorted(p.name for p in summary.done) == ["a.bmp.png", "a.gif.png", "a.png"]

    Image.fromarray(photo(8, 8)).save(tmp_path / "in" / "a.gif.png")
    with pytest.raises(ConfigError, match=r"2 pictures .*a\.gif\.png"):
        colorize_files(colorizer, tmp_path / "in", tmp_path / "out")


def test_an_input_is_never_overwritten(colorizer: PictureColorizer, tmp_path: Path) -> None:
    source = tmp_path / "b" / "b"
    source.mkdir(parents=True)
    Image.fromarray(photo(8, 8)).save(source / "a.png")
    Image.fromarray(photo(8, 8)).save(tmp_path / "a.png")
    (tmp_path / "link.png").symlink_to(tmp_path / "a.png")
    before = (tmp_path / "a.png").read_bytes(), (source / "a.png").read_bytes()
    for picture, out in (
        (tmp_path / "a.png", tmp_path / "a.png"),
        (tmp_path / "a.png", tmp_path),
        (tmp_path / "a.png", tmp_path / "b" / ".." / "a.png"),
        (tmp_path / "a.png", tmp_path / "link.png"),
        (source, source),
    ):
        with pytest.raises(ConfigError, match=r"replace the input|is or lies in"):
            colorize_files(colorizer, picture, out)
    (tmp_path / "b" / "a.png").write_bytes(before[0])
    with pytest.raises(ConfigError, match="replace the input"):
        colorize_files(colorizer, tmp_path / "b", tmp_path)
    assert before == (
        (tmp_path / "a.png").read_bytes(),
        (source / "a.png").read_bytes(),
    )


def test_an_output_folder_inside_the_source_is_refused(
    colorizer: PictureColorizer, tmp_path: Path
) -> None:
    Image.fromarray(photo(8, 8)).save(tmp_path / "a.png")
    with pytest.raises(ConfigError, match="its own outputs"):
        colorize_files(colorizer, tmp_path, tmp_path / "colored")
    assert not (tmp_path / "colored").exists()


def test_a_missing_source_an_empty_folder_and_a_wrong_output_are_named(
    colorizer: PictureColorizer, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").touch()
    Image.fromarray(photo(8, 8)).save(tmp_path / "a.png")
    (tmp_path / "file").touch()
    for source, out, message in (
        ("gone", "out", "gone: no such picture or folder"),
        ("empty", "out", "empty: no pictures"),
        ("a.png", "a.gif", r"a\.gif: cannot write \.gif files.*\.png"),
        ("a.png", "file", "file is a file"),
        ("empty", "file", "file is a file"),
    ):
        with pytest.raises(ConfigError, match=message):
            colorize_files(colorizer, tmp_path / source, tmp_path / out)


def test_one_unreadable_picture_is_reported_and_not_raised(
    colorizer: PictureColorizer, tmp_path: Path
) -> None:
    (tmp_path / "a.jpg").touch()
    summary = colorize_files(colorizer, tmp_path / "a.jpg", tmp_path / "out")
    assert summary.done == []
    assert "empty file" in summary.failed[0][1]
    assert not (tmp_path / "out").exists()


def test_files_are_what_the_server_s_bytes_are(colorizer: PictureColorizer, tmp_path: Path) -> None:
    write(tmp_path / "in", "a.jpg", "b.png")
    options = ColorOptions(saturation=1.5)
    colorize_files(colorizer, tmp_path / "in", tmp_path / "out", options)
    for name, data in files(tmp_path / "in").items():
        assert colorize_bytes(colorizer, data, options) == [(tmp_path / "out" / name).read_bytes()]


def test_what_is_finished_is_not_done_again(colorizer: PictureColorizer, tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    write(source, "a.jpg", "b.png", "c.webp", "d.tif", "e.gif")
    cv2.imwrite(str(source / "f.png"), photo(20, 30, np.uint16))
    cv2.imwrite(str(source / "g.tif"), photo(20, 30, np.uint16))
    assert len(colorize_files(colorizer, source, out).done) == 7
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    again = colorize_files(colorizer, source, out)
    assert not again.done
    assert set(again.finished) == set(before)
    (out / "b.png").unlink()
    write(source, "a.jpg.png")
    Image.fromarray(photo(21, 30)).save(source / "c.webp")  # another picture by that name
    third = colorize_files(colorizer, source, out)
    assert {path.name for path in third.done} == {"b.png", "c.webp", "a.jpg.png"}
    assert {path: path.stat().st_mtime_ns for path in third.finished} == {
        path: time for path, time in before.items() if path.name[0] in "adefg"
    }


def test_another_model_or_other_options_make_files_anew(
    colorizer: PictureColorizer, tmp_path: Path
) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    write(source, "a.png")
    seen = [
        files(out)
        for options in (1, 2, 1)
        if colorize_files(colorizer, source, out, ColorOptions(saturation=options)).done
    ]
    assert len(seen) == 3
    assert seen[0] == seen[2] != seen[1]

    class Other(SepiaByLightness):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("weight", torch.ones(1))

    other = PictureColorizer(Other(), 32)
    assert colorize_files(other, source, out, ColorOptions(saturation=1)).done
    assert colorize_files(other, source, out, ColorOptions(saturation=1), overwrite=True).done


def test_what_was_not_made_here_is_not_replaced_unless_told(
    colorizer: PictureColorizer, tmp_path: Path
) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    write(source, "a.png", "b.png")
    write(out, "a.png")
    precious = (out / "a.png").read_bytes()
    summary = colorize_files(colorizer, source, out)
    assert (out / "a.png").read_bytes() == precious
    ((picture, reason),) = summary.failed
    assert picture == source / "a.png"
    assert "was not made by colorize; --overwrite replaces it" in reason
    assert summary.done == [out / "b.png"]
    assert len(colorize_files(colorizer, source, out, overwrite=True).done) == 2


def test_samples_are_files_beside_a_contact_sheet(tmp_path: Path) -> None:
    write(tmp_path / "in", "a.png")
    drawing = PictureColorizer(Drawing(), 32)
    options = ColorOptions(samples=3)
    colorize_files(drawing, tmp_path / "in", tmp_path / "out", options)
    assert set(files(tmp_path / "out")) == {"a.1.png", "a.2.png", "a.3.png", "a.samples.jpg"}
    sheet = read_picture(tmp_path / "out" / "a.samples.jpg").rgb
    assert sheet.shape[0] >= 20
    assert sheet.shape[0] * sheet.shape[1] >= 3 * 20 * 30
    assert not colorize_files(drawing, tmp_path / "in", tmp_path / "out", options).done
    (tmp_path / "out" / "a.samples.jpg").unlink()
    assert colorize_files(drawing, tmp_path / "in", tmp_path / "out", options).done


def test_comparisons_show_before_and_after(colorizer: PictureColorizer, tmp_path: Path) -> None:
    write(tmp_path / "in", "a.png")
    for kind in ("before-after", "split"):
        summary = colorize_files(colorizer, tmp_path / "in", tmp_path / "out", compare=kind)
        assert summary.done or summary.finished
    before, after = (
        read_picture(tmp_path / "in/a.png").rgb,
        read_picture(tmp_path / "out/a.png").rgb,
    )
    both = read_picture(tmp_path / "out" / "a.before-after.jpg").rgb.astype(int)
    assert both.shape == (20, 64, 3)
    assert np.abs(both[:, :30] - before).mean() < 4
    assert np.abs(both[:, -30:] - after).mean() < 4
    split = read_picture(tmp_path / "out" / "a.split.jpg").rgb.astype(int)
    assert np.abs(split[:, :12] - before[:, :12]).mean() < 4
    assert np.abs(split[:, 18:] - after[:, 18:]).mean() < 4


class TooLarge(SepiaByLightness):
    """Has no memory for more than one picture, and none for those 40 high."""

    def colorize(
        self,
        lightness: Tensor,
        samples: int = 1,
        temperature: float | None = None,
        seed: int = 0,
    ) -> Tensor:
        if len(lightness) > 1 or lightness.shape[-1] > 64:
            raise torch.OutOfMemoryError("planted")
        return super().colorize(lightness, samples, temperature, seed)


def test_a_picture_that_does_not_fit_into_memory_costs_only_itself(tmp_path: Path) -> None:
    write(tmp_path / "in", "a.png", "b.png", "c.png")
    Image.fromarray(photo(10, 30)).save(tmp_path / "in" / "wide.png")
    colorizer = PictureColorizer(TooLarge(), 32)
    summary = colorize_files(colorizer, tmp_path / "in", tmp_path / "out", batch=4)
    assert {path.name for path in summary.done} == {"a.png", "b.png", "c.png"}
    ((picture, reason),) = summary.failed
    assert picture.name == "wide.png"
    assert "memory" in reason


def test_a_picture_too_wide_for_its_format_is_named(
    colorizer: PictureColorizer, tmp_path: Path
) -> None:
    Image.new("L", (66_000, 2), 99).save(tmp_path / "long.png")
    summary = colorize_files(colorizer, tmp_path / "long.png", tmp_path / "long.jpg")
    ((_, reason),) = summary.failed
    assert "66000 x 2 pixels do not fit into .jpg" in reason
    assert not (tmp_path / "long.jpg").exists()
    assert colorize_files(colorizer, tmp_path / "long.png", tmp_path / "out").done


class Failing(SepiaByLightness):
    """Cannot color what is 64 wide, nor what is beside it; is damaged where told so."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    def colorize(
        self,
        lightness: Tensor,
        samples: int = 1,
        temperature: float | None = None,
        seed: int = 0,
    ) -> Tensor:
        if lightness.shape[-1] > 64:
            raise self._error
        return super().colorize(lightness, samples, temperature, seed)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (RuntimeError("planted\nfault"), "wide.png: RuntimeError: planted fault"),
        (MemoryError(), "wide.png: is larger than the memory there is"),
    ],
)
def test_a_picture_that_the_model_cannot_color_costs_only_itself(
    error: Exception, told: str, tmp_path: Path
) -> None:
    write(tmp_path / "in", "a.png", "z.png")
    Image.fromarray(photo(10, 30)).save(tmp_path / "in" / "wide.png")
    colorizer = PictureColorizer(Failing(error), 32)
    summary = colorize_files(colorizer, tmp_path / "in", tmp_path / "out", batch=3)
    assert {path.name for path in summary.done} == {"a.png", "z.png"}
    ((_, reason),) = summary.failed
    assert told in reason


def test_a_damaged_model_ends_all(tmp_path: Path) -> None:
    Image.fromarray(photo(10, 30)).save(tmp_path / "wide.png")
    colorizer = PictureColorizer(Failing(DamagedModel("planted")), 32)
    with pytest.raises(DamagedModel):
        colorize_files(colorizer, tmp_path / "wide.png", tmp_path / "out")


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_is_in_the_place_of_an_output_costs_only_its_picture(
    colorizer: PictureColorizer, overwrite: bool, tmp_path: Path
) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    write(source, "a.png", "b.png", "c.png")
    write(source / "below", "d.png")
    (out / "a.png").mkdir(parents=True)
    (out / "b.split.jpg").mkdir()
    (out / "below").write_text("a file where a folder is needed")
    summary = colorize_files(colorizer, source, out, compare="split", overwrite=overwrite, batch=4)
    assert summary.done == [out / "c.png", out / "c.split.jpg"]
    reasons = dict(summary.failed)
    for picture, place in (("a.png", "a.png"), ("b.png", "b.split.jpg"), ("below/d.png", "below")):
        assert str(out / place) in reasons.pop(source / picture)
    assert not reasons
    assert not list(out.rglob("*.part"))


def test_a_full_disk_ends_all_and_names_the_file(
    colorizer: PictureColorizer, tmp_path: Path
) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    write(source, "a.png", "b.png")
    with full_disk(100), pytest.raises(OSError, match="File too large") as caught:
        colorize_files(colorizer, source, out)
    assert caught.value.filename == str(out / "a.png")
    assert not list(out.iterdir())


def test_sheets_and_comparisons_of_pictures_of_one_name_keep_apart(tmp_path: Path) -> None:
    write(tmp_path / "in", "a.png", "a.tif", "b.png")
    summary = colorize_files(
        PictureColorizer(Drawing(), 32),
        tmp_path / "in",
        tmp_path / "out",
        ColorOptions(samples=2),
        compare="split",
    )
    assert {path.name for path in summary.done if path.suffix == ".jpg"} == {
        *("a.png.samples.jpg", "a.tif.samples.jpg", "b.samples.jpg"),
        *("a.png.split.jpg", "a.tif.split.jpg", "b.split.jpg"),
    }
