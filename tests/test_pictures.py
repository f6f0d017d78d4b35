import contextlib
import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from colorization import pictures
from colorization.jpeg import plain_size
from colorization.pictures import (
    Picture,
    UnreadablePicture,
    encode_picture,
    format_suffix,
    read_picture,
    read_rgb,
    to_uint8,
    write_picture,
)


def smooth(height: int = 40, width: int = 56) -> np.ndarray:
    """A gradient with a different direction in each channel, so that no turn or swap is hidden."""
    y, x = np.mgrid[0:height, 0:width]
    channels = (x * 255 // width, y * 255 // height, (x + y) * 255 // (width + height))
    return np.stack(channels, axis=-1).astype(np.uint8)


def smooth16() -> np.ndarray:
    return smooth().astype(np.uint16) * 257 - smooth()


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png(color_type: int, pixels: np.ndarray, chunks: bytes = b"") -> bytes:
    """A 16-bit PNG of any color type, some of which neither Pillow nor cv2 can write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    height, width = pixels.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, 16, color_type, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    if chunks:
        start += chunk(chunks[:4], chunks[4:])
    return start + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def transposed(rgb: np.ndarray, orientation: int) -> np.ndarray:
    """The stored pixels which a viewer that obeys the orientation shows as `rgb`."""
    inverse = {
        1: lambda p: p,
        2: np.fliplr,
        3: lambda p: np.rot90(p, 2),
        4: np.flipud,
        5: lambda p: p.swapaxes(0, 1),
        6: lambda p: np.rot90(p, 1),
        7: lambda p: np.rot90(p, 2).swapaxes(0, 1),
        8: lambda p: np.rot90(p, -1),
    }
    return np.ascontiguousarray(inverse[orientation](rgb))


def test_an_rgb_png_is_read_as_it_is() -> None:
    picture = read_picture(encoded(Image.fromarray(smooth()), "PNG"))
    assert np.array_equal(picture.rgb, smooth())
    assert picture.rgb.dtype == np.uint8
    assert picture.alpha is None


@pytest.mark.parametrize("mode", ["L", "1", "P"])
def test_gray_one_bit_and_palette_pictures_become_rgb(mode: str) -> None:
    image = Image.fromarray(smooth()).convert(mode)
    picture = read_picture(encoded(image, "PNG"))
    assert np.array_equal(picture.rgb, np.asarray(image.convert("RGB")))
    assert picture.alpha is None


@pytest.mark.parametrize("mode", ["RGBA", "LA", "palette"])
def test_transparency_is_kept_beside_the_colors(mode: str) -> None:
    image = Image.fromarray(smooth())
    if mode == "palette":
        data = encoded(image.quantize(16), "PNG", transparency=3)
        expected = np.where(np.asarray(image.quantize(16)) == 3, 0, 255)
    else:
        expected = smooth()[..., 0]
        image = image.convert(mode)
        image.putalpha(Image.fromarray(expected))
        data = encoded(image, "PNG")
    picture = read_picture(data)
    assert picture.alpha is not None
    assert picture.rgb.shape == (40, 56, 3)
    assert np.array_equal(picture.alpha, expected)


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_16_bits_stay_16_bits(suffix: str) -> None:
    gray, color = smooth16()[..., 0], smooth16()
    for pixels in (gray, color, np.dstack((color, gray))):
        bgr = pixels if pixels.ndim == 2 else pixels[..., [2, 1, 0, 3][: pixels.shape[2]]]
        picture = read_picture(cv2.imencode(suffix, np.ascontiguousarray(bgr))[1].tobytes())
        expected = np.dstack([gray] * 3) if pixels.ndim == 2 else pixels[..., :3]
        assert picture.rgb.dtype == np.uint16
        assert np.array_equal(picture.rgb, expected)
        if pixels.shape[2:] == (4,):
            assert picture.alpha is not None
            assert np.array_equal(picture.alpha, gray)
        else:
            assert picture.alpha is None


def test_16_bit_gray_with_alpha_and_with_a_transparent_value_keep_their_alpha() -> None:
    gray, alpha = smooth16()[..., 0], smooth16()[..., 1]
    picture = read_picture(png(4, np.dstack((gray, alpha))))
    assert picture.alpha is not None
    assert np.array_equal(picture.rgb[..., 2], gray)
    assert np.array_equal(picture.alpha, alpha)

    picture = read_picture(png(0, gray, b"tRNS" + struct.pack(">H", gray[0, 9])))
    assert picture.alpha is not None
    assert np.array_equal(picture.alpha == 0, gray == gray[0, 9])


def tiff(bits: int, photometric: int, width: int, packed: bytes) -> bytes:
    """A one-row gray TIFF of any depth."""
    tags = [
        (256, width),
        (257, 1),
        (258, bits),
        (259, 1),
        (262, photometric),
        (273, 122),
    ]
    tags += [(277, 1), (278, 1), (279, len(packed))]
    entries = b"".join(struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in tags)
    return struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + entries + bytes(4) + packed


def test_12_bit_gray_and_white_is_zero_use_the_full_range() -> None:
    twelve = read_picture(tiff(12, 1, 2, bytes.fromhex("000fff")))
    assert twelve.rgb[0, :, 0].tolist() == [0, 65535]
    negative = read_picture(tiff(16, 0, 2, struct.pack("<HH", 0, 65000)))
    assert negative.rgb[0, :, 0].tolist() == [65535, 535]


def test_a_float_tiff_from_0_to_1_becomes_16_bits_and_other_ranges_are_named() -> None:
    gray = smooth()[..., 0].astype(np.float32) / 255
    picture = read_picture(encoded(Image.fromarray(gray), "TIFF"))
    assert picture.rgb.dtype == np.uint16
    assert np.allclose(picture.rgb[..., 0] / 65535, gray, atol=1e-4)
    with pytest.raises(UnreadablePicture, match=r"0 to 2500.*0 to 1"):
        read_picture(encoded(Image.fromarray(gray * 2550), "TIFF"))


def test_a_32_bit_tiff_beyond_16_bits_is_refused_with_its_range() -> None:
    data = encoded(Image.fromarray(np.full((3, 4), 70000, np.int32)), "TIFF")
    with pytest.raises(UnreadablePicture, match=r"70000.*65535"):
        read_picture(data)


@pytest.mark.parametrize("read", [lambda data: read_picture(data).rgb, read_rgb])
def test_a_cmyk_jpeg_has_its_colors_not_their_negative(read) -> None:
    data = encoded(Image.fromarray(smooth()).convert("CMYK"), "JPEG", quality=95)
    assert b"Adobe" in data[:64]
    assert Image.open(io.BytesIO(data)).mode == "CMYK"
    assert np.abs(read(data).astype(int) - smooth()).mean() < 4
    assert np.array_equal(read(data), read_picture(data).rgb)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_exif_orientation_is_applied(orientation: int, kind: str) -> None:
    image = Image.fromarray(transposed(smooth(), orientation))
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"JPEG": {"quality": 98, "subsampling": 0}, "WEBP": {"lossless": True}}
    data = encoded(image, kind, exif=exif, **options.get(kind, {}))
    for rgb in (read_picture(data).rgb, read_rgb(data)):
        assert rgb.shape == smooth().shape
        assert np.abs(rgb.astype(int) - smooth()).max() < 12


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("depth", ["gray", "color"])
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_exif_orientation_of_16_bit_pictures_is_applied(
    orientation: int, depth: str, kind: str
) -> None:
    stored = transposed(smooth16(), orientation)
    seen = smooth16() if depth == "color" else np.dstack([smooth16()[..., 0]] * 3)
    if kind == "PNG":
        entry = struct.pack(">2sHIHHHIHHI", b"MM", 42, 8, 1, 0x0112, 3, 1, orientation, 0, 0)
        exif = b"eXIf" + entry
        data = png(2, stored, exif) if depth == "color" else png(0, stored[..., 0], exif)
    else:
        tifffile = pytest.importorskip("tifffile")
        buffer = io.BytesIO()
        pixels = stored if depth == "color" else stored[..., 0]
        tifffile.imwrite(
            buffer,
            pixels,
            photometric="rgb" if depth == "color" else "minisblack",
            extratags=[(274, "H", 1, orientation, True)],
        )
        data = buffer.getvalue()
    assert np.array_equal(read_picture(data).rgb, seen)
    assert np.array_equal(read_rgb(data), to_uint8(seen))


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_of_an_animation_the_first_frame_is_read(kind: str) -> None:
    frames = [Image.new("RGB", (9, 7), color) for color in ("red", "blue", "lime")]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
    assert np.abs(read_picture(data).rgb.astype(int) - (255, 0, 0)).max() < 3


@pytest.mark.parametrize("size", [(1, 1), (1, 37), (53, 1), (17, 31)])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"])
def test_odd_sizes_down_to_one_pixel_are_read(size: tuple[int, int], kind: str) -> None:
    data = encoded(Image.new("RGB", size, (200, 90, 30)), kind)
    assert read_picture(data).rgb.shape == (size[1], size[0], 3)
    assert np.array_equal(read_rgb(data), read_picture(data).rgb)


def test_the_fast_path_equals_the_full_one_on_photographs() -> None:
    photo = Image.fromarray(smooth(120, 90))
    for subsampling in (0, 1, 2):
        for progressive in (False, True):
            data = encoded(photo, "JPEG", subsampling=subsampling, progressive=progressive)
            assert np.array_equal(read_rgb(data), read_picture(data).rgb)
    gray = encoded(photo.convert("L"), "JPEG")
    assert np.array_equal(read_rgb(gray), read_picture(gray).rgb)


def test_names_with_spaces_and_non_latin_letters_are_read(tmp_path: Path) -> None:
    path = tmp_path / "夏 の 写真 č.jpg"
    path.write_bytes(encoded(Image.fromarray(smooth()), "JPEG"))
    assert read_picture(path).rgb.shape == read_rgb(path).shape == (40, 56, 3)


@pytest.mark.parametrize("read", [read_picture, read_rgb])
@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "empty file"),
        ("Das ist ein Text für niemanden.\n".encode() * 40, "found text"),
        (b"<!DOCTYPE html><html>404</html>", "a web page"),
        (b"%PDF-1.7 ...", "PDF"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC"),
        (bytes(range(256)), "no picture"),
    ],
)
def test_what_is_no_picture_is_named_with_what_it_is(
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    read,
    content: bytes,
    found: str,
) -> None:
    path = tmp_path / "holiday.jpg"
    path.write_bytes(content)
    with pytest.raises(UnreadablePicture, match=found) as caught:
        read(path)
    assert "holiday.jpg" in str(caught.value)
    assert "JPEG, PNG" in str(caught.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("read", [read_picture, read_rgb])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF"])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
def test_a_truncated_picture_is_unreadable_and_prints_nothing(
    capfd: pytest.CaptureFixture[str],
    read,
    kind: str,
    share: float,
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), kind)
    with pytest.raises(UnreadablePicture, match=r"cut\.jpg: found"):
        read(data[: int(len(data) * share)], "cut.jpg")
    assert capfd.readouterr() == ("", "")


def test_truncated_and_damaged_16_bit_pictures_print_nothing(
    capfd: pytest.CaptureFixture[str],
) -> None:
    noise = np.random.default_rng(0).integers(0, 65536, (40, 56, 3), dtype=np.uint16)
    turned = b"eXIf" + struct.pack(">2sHIHHHIHHI", b"MM", 42, 8, 1, 0x0112, 3, 1, 6, 0, 0)
    whole = [cv2.imencode(suffix, noise)[1].tobytes() for suffix in (".png", ".tiff")]
    for data in (*whole, png(2, noise, turned)):
        with pytest.raises(UnreadablePicture):
            read_picture(data[: len(data) // 2])
        middle = len(data) // 2
        damaged = data[:middle] + bytes(200) + data[middle + 200 :]
        with contextlib.suppress(UnreadablePicture):  # TIFF without compression has no checksum
            read_picture(damaged)
    assert capfd.readouterr() == ("", "")


def test_damage_anywhere_ends_in_a_picture_or_in_unreadable_picture(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pictures, "MAX_MEGAPIXELS", 1)
    draw = np.random.default_rng(1)
    image = Image.fromarray(smooth(16, 16))
    whole = [encoded(image, kind) for kind in ("PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM")]
    whole += [encode_picture(Picture(smooth16()[:16, :16]), suffix) for suffix in (".png", ".tif")]
    for data in whole:
        for _ in range(40):
            damaged = bytearray(data)
            for place in draw.integers(0, min(len(data), 200), 3):
                damaged[place] = draw.integers(0, 256)
            with contextlib.suppress(UnreadablePicture):
                assert read_picture(bytes(damaged)).rgb.ndim == 3


def test_a_folder_and_a_missing_file_are_unreadable_pictures(tmp_path: Path) -> None:
    with pytest.raises(UnreadablePicture, match="found a folder"):
        read_picture(tmp_path)
    with pytest.raises(UnreadablePicture, match=r"gone\.jpg: no such file"):
        read_rgb(tmp_path / "gone.jpg")


def test_more_pixels_than_the_limit_are_refused_before_they_are_decoded() -> None:
    # A PNG header is all there is: whoever decoded would say that the rest is missing.
    header = struct.pack(">IIBBBBB", 40_000, 30_000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    data = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk
    data += struct.pack(">I", zlib.crc32(chunk)) + struct.pack(">I", 9) + b"IDAT" + bytes(13)
    limit = Image.MAX_IMAGE_PIXELS
    with pytest.raises(UnreadablePicture, match=r"40000 x 30000.*250 megapixels"):
        read_picture(data)
    assert limit == Image.MAX_IMAGE_PIXELS


def test_pictures_up_to_the_limit_are_not_stopped_by_pillow(
    monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    data = encoded(Image.fromarray(smooth()), "PNG")
    assert read_picture(data).rgb.shape == (40, 56, 3)
    monkeypatch.setattr(pictures, "MAX_MEGAPIXELS", 40 * 55 / 1e6)
    with pytest.raises(UnreadablePicture, match="megapixels"):
        read_picture(data)
    assert not recwarn.list


@pytest.mark.parametrize("suffix", [".png", ".PNG", ".tif", ".tiff", ".webp"])
@pytest.mark.parametrize("with_alpha", [False, True])
def test_lossless_formats_return_what_was_written(suffix: str, with_alpha: bool) -> None:
    alpha = smooth()[..., 0] if with_alpha else None
    back = read_picture(encode_picture(Picture(smooth(), alpha), suffix))
    assert np.array_equal(back.rgb, smooth())
    assert (back.alpha is None) == (alpha is None)
    if alpha is not None:
        assert back.alpha is not None
        assert np.array_equal(back.alpha, alpha)


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
@pytest.mark.parametrize("with_alpha", [False, True])
def test_16_bit_pictures_return_as_they_were_written(
    suffix: str, with_alpha: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    alpha = smooth16()[..., 0] if with_alpha else None
    back = read_picture(encode_picture(Picture(smooth16(), alpha), suffix))
    assert back.rgb.dtype == np.uint16
    assert np.array_equal(back.rgb, smooth16())
    if alpha is not None:
        assert back.alpha is not None
        assert np.array_equal(back.alpha, alpha)
    assert capfd.readouterr() == ("", "")


def test_jpeg_keeps_colors_at_full_resolution_and_lays_transparency_on_white() -> None:
    half = smooth()
    alpha = np.zeros(half.shape[:2], np.uint8)
    alpha[:, 28:] = 255
    data = encode_picture(Picture(half, alpha), ".jpg")
    back = read_picture(data).rgb.astype(int)
    assert back[:, :20].min() > 240
    assert np.abs(back[:, 36:] - half[:, 36:]).mean() < 3
    frame = data.index(b"\xff\xc0")
    assert data[frame + 11] == 0x11  # the first component's sampling factors: no more than others


def test_16_bits_are_rounded_where_a_format_has_8() -> None:
    rgb = np.full((8, 8, 3), 200 * 257 + 128, np.uint16)
    assert read_picture(encode_picture(Picture(rgb), ".webp")).rgb.max() == 200
    assert to_uint8(np.array([0, 128, 129, 65535], np.uint16)).tolist() == [
        0,
        0,
        1,
        255,
    ]


def test_a_suffix_that_cannot_be_written_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\.xcf"):
        encode_picture(Picture(smooth()), ".xcf")


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.png"
    write_picture(Picture(smooth()), path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="suffix"):
        write_picture(Picture(smooth()), path.with_suffix(""))
    assert [p.name for p in path.parent.iterdir()] == ["a.png"]
    assert path.read_bytes() == before


def test_the_format_of_bytes_is_told_from_their_start() -> None:
    image = Image.fromarray(smooth())
    found = {kind: format_suffix(encoded(image, kind)) for kind in ("JPEG", "PNG", "WEBP", "TIFF")}
    assert found == {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp", "TIFF": ".tif"}
    assert format_suffix(encoded(image, "GIF")) is None


@pytest.mark.parametrize("orientation", [None, 1, 2, 3, 4, 5, 6, 7, 8])
@pytest.mark.parametrize("kind", ["L", "RGB"])
def test_a_jpeg_decoded_smaller_looks_as_if_shrunk_by_averages(
    orientation: int | None, kind: str
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(transposed(smooth(104, 136), orientation or 1)).convert(kind)
    data = encoded(stored, "JPEG", quality=95, **({"exif": exif} if orientation else {}))
    full = read_picture(data).rgb
    for short_side, scale in ((0, 1), (53, 1), (52, 2), (27, 2), (26, 4), (14, 4), (13, 8), (1, 8)):
        small = read_rgb(data, short_side=short_side)
        assert small.shape == (104 // scale, 136 // scale, 3)
        expected = cv2.resize(full, small.shape[1::-1], interpolation=cv2.INTER_AREA)
        assert np.abs(small.astype(int) - expected).max() < 12


@pytest.mark.parametrize("size", [(97, 131), (8, 8), (1, 1), (1, 200), (255, 17)])
def test_a_short_side_never_falls_below_what_is_wanted(size: tuple[int, int]) -> None:
    data = encoded(Image.fromarray(np.full((*size, 3), 90, np.uint8)), "JPEG")
    for wanted in range(1, 140):
        found = read_rgb(data, short_side=wanted).shape
        assert min(found[:2]) >= min(wanted, *size)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "CMYK"])
def test_other_pictures_are_decoded_at_their_size_whatever_is_wanted(kind: str) -> None:
    image = Image.fromarray(smooth(97, 131))
    cmyk = kind == "CMYK"
    data = encoded(image.convert("CMYK"), "JPEG") if cmyk else encoded(image, kind)
    assert np.array_equal(read_rgb(data, short_side=8), read_picture(data).rgb)


def test_only_plain_jpegs_get_their_size_without_pillow() -> None:
    image = Image.fromarray(smooth())
    exif = Image.Exif()
    exif[0x0112] = 6
    plain = [encoded(image, "JPEG", progressive=p, comment=b"c" * 300) for p in (False, True)]
    assert [plain_size(data) for data in plain] == [(56, 40)] * 2
    assert plain_size(encoded(image.convert("L"), "JPEG")) == (56, 40)
    others = [encoded(image, "JPEG", exif=exif), encoded(image.convert("CMYK"), "JPEG")]
    others.append(encoded(image, "MPO", save_all=True, append_images=[image]))
    others += [encoded(image, "PNG"), b"", plain[0][:100], b"\xff\xd8" + b"\xff\xe0\0\0" * 99]
    assert [plain_size(data) for data in others] == [None] * len(others)


def test_a_jpeg_that_claims_more_pixels_than_the_limit_is_refused_before_it_is_decoded() -> None:
    data = encoded(Image.fromarray(smooth()), "JPEG")
    frame = data.index(b"\xff\xc0")
    bomb = data[: frame + 5] + struct.pack(">HH", 60_000, 50_000) + data[frame + 9 :]
    for read in (read_picture, read_rgb):
        with pytest.raises(UnreadablePicture, match=r"50000 x 60000.*250 megapixels"):
            read(bomb)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF", "BMP"])
def test_the_content_decides_and_not_the_suffix(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "wrong.jpg"
    path.write_bytes(encoded(Image.fromarray(smooth()), kind))
    assert read_rgb(path).shape == (40, 56, 3)


def test_thousands_of_damaged_pictures_end_neither_in_a_crash_nor_in_another_error() -> None:
    script = Path(__file__).parent / "support" / "fuzz_pictures.py"
    command = [sys.executable, str(script), "0", "2500"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    except subprocess.TimeoutExpired as error:
        said = (error.stdout or b"").decode().splitlines()
        pytest.fail(f"no answer: {said[-2:]}")
    said = done.stdout.splitlines()
    assert done.returncode == 0, (done.returncode, said[-2:], done.stderr[-2000:])
    assert said.count("read") > 500
    assert said.count("read") + said.count("unreadable") == 5000
