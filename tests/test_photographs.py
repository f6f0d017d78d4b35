import io
import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms

from colorization.coloring import ColorOptions
from colorization.icc import deep_to_srgb, describe, srgb_profile
from colorization.inference import PictureColorizer
from colorization.metadata import PROCESSING_SOFTWARE
from colorization.photographs import (
    Signature,
    colorize_bytes,
    is_record,
    read_photograph,
    signature_of,
)
from colorization.pictures import (
    Picture,
    UnreadablePicture,
    encode_picture,
    read_picture,
)
from sepia import Drawing, SepiaByLightness, lightness_of, photo

BASE = ExifTags.Base
XMP = b"""<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF><rdf:Description tiff:Orientation="6"
 dc:title="Harbor"/></rdf:RDF></x:xmpmeta>"""


@pytest.fixture
def colorizer() -> PictureColorizer:
    return PictureColorizer(SepiaByLightness(), 32)


def encoded(image: Image.Image, kind: str, **said: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **said)
    return buffer.getvalue()


def camera_exif() -> Image.Exif:
    exif = Image.Exif()
    exif[BASE.Orientation] = 6
    exif[BASE.Make] = "Leica"
    exif[BASE.ImageDescription] = "Hafen, 1932"
    exif[BASE.Copyright] = "the family"
    exif[BASE.ImageWidth] = 9999
    exif[ExifTags.IFD.Exif] = {
        BASE.DateTimeOriginal: "1932:05:01 12:00:00",
        BASE.ExifImageWidth: 9999,
        BASE.ColorSpace: 65535,
    }
    exif[ExifTags.IFD.GPSInfo] = {1: "N", 2: (53.0, 32.0, 0.0)}
    return exif


KINDS = {"PNG": ".png", "JPEG": ".jpg", "WEBP": ".webp", "TIFF": ".tif"}


@pytest.mark.parametrize("kind", KINDS)
def test_metadata_stay_but_for_what_is_of_the_old_pixels(
    kind: str, colorizer: PictureColorizer
) -> None:
    exif = camera_exif()
    if kind == "TIFF":  # where it would be the file's own
        del exif[BASE.ImageWidth]
    image = Image.fromarray(photo(40, 50))
    data = encoded(image, kind, exif=exif.tobytes(), dpi=(300, 200))
    (colored,) = colorize_bytes(colorizer, data)
    with Image.open(io.BytesIO(colored)) as image:
        image.load()
        assert image.format == kind
        assert image.size == (40, 50)  # upright
        exif = image.getexif()
        assert exif.get(BASE.Orientation, 1) == 1
        assert exif[BASE.Make] == "Leica"
        assert exif[BASE.ImageDescription] == "Hafen, 1932"
        assert exif[BASE.Copyright] == "the family"
        assert exif.get(BASE.ImageWidth) in (None, 40)
        details = exif.get_ifd(ExifTags.IFD.Exif)
        assert details[BASE.DateTimeOriginal] == "1932:05:01 12:00:00"
        assert BASE.ExifImageWidth not in details
        assert details[BASE.ColorSpace] == 1
        assert exif.get_ifd(ExifTags.IFD.GPSInfo)[2] == (53.0, 32.0, 0.0)
        if kind != "WEBP":
            dpi = tuple(float(value) for value in image.info["dpi"])
            assert dpi == pytest.approx((200, 300), abs=0.1)  # turned as the picture is


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_xmp_stays_without_its_orientation(kind: str, colorizer: PictureColorizer) -> None:
    said: dict[str, Any] = {"xmp": XMP}
    if kind == "PNG":
        from PIL.PngImagePlugin import PngInfo

        said = {"pnginfo": PngInfo()}
        said["pnginfo"].add_itxt("XML:com.adobe.xmp", XMP.decode())
    elif kind == "TIFF":
        said = {"tiffinfo": {700: XMP}}
    (colored,) = colorize_bytes(colorizer, encoded(Image.fromarray(photo(8, 9)), kind, **said))
    with Image.open(io.BytesIO(colored)) as image:
        found = image.info.get("xmp") or image.info["XML:com.adobe.xmp"].encode()
    assert b"Harbor" in found
    assert b"Orientation" not in found


def test_the_profile_put_into_pictures_is_a_valid_one_and_does_not_say_when() -> None:
    profile = srgb_profile()
    made = ImageCms.ImageCmsProfile(io.BytesIO(profile)).profile
    assert made.creation_date is not None
    assert made.creation_date.year == 2000  # LittleCMS writes the second in which it is asked
    assert ImageCms.getProfileName(ImageCms.ImageCmsProfile(io.BytesIO(profile))).strip()


def test_deep_png_and_tiff_keep_bits_alpha_and_metadata(
    colorizer: PictureColorizer, tmp_path: Path
) -> None:
    rgb, alpha = photo(21, 33, np.uint16), photo(21, 33, np.uint16)[..., 0]
    for suffix in (".png", ".tif"):
        plain = encode_picture(Picture(rgb, alpha), suffix)
        found = read_photograph(plain)
        assert np.array_equal(found.picture.rgb, rgb)
        assert found.picture.alpha is not None
        assert np.array_equal(found.picture.alpha, alpha)
        full = found.metadata.__class__(
            exif=camera_exif().tobytes(), xmp=XMP, dpi=(300, 300), tagged=True
        )
        data = encode_picture(Picture(rgb, alpha), suffix, full)
        (colored,) = colorize_bytes(colorizer, data)
        again = read_picture(colored)
        # The orientation in the EXIF was applied.
        assert again.rgb.shape == (33, 21, 3)
        assert again.rgb.dtype == np.uint16
        assert again.alpha is not None
        assert np.array_equal(again.alpha, np.rot90(alpha, -1))
        with Image.open(io.BytesIO(colored)) as image:
            image.load()
            exif = image.getexif()
            assert exif[BASE.Make] == "Leica"
            assert exif.get(BASE.Orientation, 1) == 1
            assert exif.get_ifd(ExifTags.IFD.Exif)[BASE.DateTimeOriginal].startswith("1932")
            assert image.info["icc_profile"] == srgb_profile()
            assert float(image.info["dpi"][0]) == pytest.approx(300, abs=0.1)
        (tmp_path / "a").write_bytes(colored)
        assert is_record(signature_of(tmp_path / "a"))


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp", ".jpg"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_lightness_of_files_stays(suffix: str, dtype: type, colorizer: PictureColorizer) -> None:
    rgb = photo(64, 80, dtype)
    data = encode_picture(Picture(rgb), suffix)
    before = read_picture(data)
    (colored,) = colorize_bytes(colorizer, data, ColorOptions(saturation=3))
    after = read_picture(colored)
    assert after.rgb.dtype == before.rgb.dtype
    error = np.abs(lightness_of(after.rgb) - lightness_of(before.rgb))
    if suffix == ".jpg":
        assert error.mean() < 0.4
        assert np.quantile(error, 0.99) < 2
    else:
        assert error.max() < 100 / 255


def adobe_like(gamma: float = 2.2) -> bytes:
    """A profile of Adobe RGB's primaries: matrix and curves."""

    def xyz(*values: float) -> bytes:
        return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(v * 65536) for v in values))

    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    text = b"desc\0\0\0\0" + struct.pack(">I", 6) + b"Adobe\0" + b"\0" * 78
    tags = {
        b"desc": text + b"\0" * (-len(text) % 4),
        b"cprt": b"text\0\0\0\0none",
        b"wtpt": xyz(0.9642, 1, 0.8249),
        b"rXYZ": xyz(0.60974, 0.31111, 0.01947),
        b"gXYZ": xyz(0.20528, 0.62567, 0.06087),
        b"bXYZ": xyz(0.14919, 0.06322, 0.74457),
        b"rTRC": curve,
        b"gTRC": curve,
        b"bTRC": curve,
    }
    table, body = b"", b""
    start = 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        table += struct.pack(">4sII", name, start + len(body), len(content))
        body += content
    head = struct.pack(
        ">I4sI4s4s4s", start + len(body), b"lcms", 0x02400000, b"mntr", b"RGB ", b"XYZ "
    )
    head += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + b"\0" * 28
    head += struct.pack(">3i", 63190, 65536, 54061)
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


def test_a_profile_is_followed_and_the_copy_is_tagged_srgb(colorizer: PictureColorizer) -> None:
    image = Image.new("RGB", (40, 30), (60, 200, 90))
    plain = read_photograph(encoded(image, "PNG"))
    tagged = read_photograph(encoded(image, "PNG", icc_profile=adobe_like()))
    assert plain.picture.rgb[0, 0].tolist() == [60, 200, 90]
    # Green of Adobe RGB lies outside sRGB: red light would be negative.
    assert tagged.picture.rgb[0, 0, 0] == 0
    assert not plain.metadata.tagged
    assert tagged.metadata.tagged
    (colored,) = colorize_bytes(colorizer, encoded(image, "JPEG", icc_profile=adobe_like()))
    with Image.open(io.BytesIO(colored)) as found:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(found.info["icc_profile"]))
        assert "sRGB" in describe(profile)


def test_deep_pixels_are_converted_as_those_of_8_bits() -> None:
    rgb = photo(40, 50)
    image = Image.fromarray(rgb)
    shallow = read_photograph(encoded(image, "PNG", icc_profile=adobe_like())).picture.rgb
    deep = deep_to_srgb(rgb.astype(np.uint16) * 257, adobe_like())
    assert deep.dtype == np.uint16
    error = np.abs(deep / 257 - shallow)
    assert np.quantile(error, 0.99) < 1.1  # Pillow's is rounded
    assert error.max() < 3
    ramp = np.repeat(np.arange(0, 65536, 7, dtype=np.uint16)[None, :, None], 3, axis=2)
    smooth = deep_to_srgb(ramp, adobe_like())[0, :, 1].astype(int)
    assert np.diff(smooth).min() >= 0
    assert len(np.unique(smooth)) > 0.9 * smooth.size * 0.9


@pytest.mark.parametrize("profile", [b"", b"nonsense", b"\0" * 200, adobe_like()[:300]])
def test_a_damaged_profile_is_passed_over(profile: bytes) -> None:
    image = Image.fromarray(photo(20, 30))
    found = read_photograph(encoded(image, "PNG", icc_profile=profile))
    assert np.array_equal(found.picture.rgb, photo(20, 30))
    deep = photo(20, 30, np.uint16)
    assert np.array_equal(deep_to_srgb(deep, profile), deep)


def test_gray_with_alpha_and_palettes_follow_profiles_that_fit_alone() -> None:
    veiled = Image.fromarray(photo(20, 30)).convert("LA")
    found = read_photograph(encoded(veiled, "PNG", icc_profile=adobe_like()))
    assert found.picture.alpha is not None
    assert np.ptp(found.picture.rgb.astype(int), axis=2).max() == 0


def test_damaged_exif_is_left_out_and_said(colorizer: PictureColorizer) -> None:
    exif = b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\x01" * 200
    data = encoded(Image.fromarray(photo(20, 30)), "JPEG", exif=exif)
    photograph = read_photograph(data, "old.jpg")
    assert photograph.picture.rgb.shape == (20, 30, 3)
    (colored,) = colorize_bytes(colorizer, data, name="old.jpg")
    assert read_picture(colored).rgb.shape == (20, 30, 3)


def test_a_signature_hangs_on_weights_options_and_picture(colorizer: PictureColorizer) -> None:
    plain = Signature(colorizer, ColorOptions()).record("digest")
    assert is_record(plain)
    assert plain == Signature(PictureColorizer(SepiaByLightness(), 32), ColorOptions()).record(
        "digest"
    )
    others = [
        Signature(colorizer, ColorOptions(saturation=2)).record("digest"),
        Signature(PictureColorizer(SepiaByLightness(), 48), ColorOptions()).record("digest"),
        Signature(colorizer, ColorOptions()).record("other"),
        Signature(colorizer, ColorOptions()).record("digest", "1"),
    ]
    assert len({plain, *others}) == 5
    assert not is_record("Photoshop")
    assert not is_record(None)


@pytest.mark.parametrize("kind", KINDS)
def test_bytes_come_back_in_their_format(kind: str, colorizer: PictureColorizer) -> None:
    data = encode_picture(Picture(photo(40, 50)), KINDS[kind])
    (colored,) = colorize_bytes(colorizer, data)
    with Image.open(io.BytesIO(colored)) as image:
        assert image.format == kind
        assert image.size == (50, 40)
        assert "icc_profile" not in image.info


def test_png_bytes_lose_nothing(colorizer: PictureColorizer) -> None:
    for rgb in (photo(40, 50), photo(40, 50, np.uint16)):
        (data,) = colorize_bytes(colorizer, encode_picture(Picture(rgb), ".png"))
        assert np.array_equal(read_picture(data).rgb, colorizer.one(Picture(rgb)).rgb)


def test_each_sample_is_a_file(colorizer: PictureColorizer) -> None:
    drawing = PictureColorizer(Drawing(), 32)
    data = encode_picture(Picture(photo(40, 50)), ".png")
    options = ColorOptions(samples=3)
    found = [read_picture(sample).rgb for sample in colorize_bytes(drawing, data, options)]
    expected = [sample.rgb for sample in drawing(Picture(photo(40, 50)), options)]
    assert all(map(np.array_equal, found, expected))
    assert len(found) == 3


def test_bytes_of_other_formats_become_png_and_bad_ones_carry_their_name(
    colorizer: PictureColorizer,
) -> None:
    bitmap = cv2.imencode(".bmp", photo(8, 9))[1].tobytes()
    assert colorize_bytes(colorizer, bitmap)[0].startswith(b"\x89PNG")
    with pytest.raises(UnreadablePicture, match=r"upload 3: found text"):
        colorize_bytes(colorizer, b"hello", name="upload 3")


def test_a_record_is_found_in_pictures_as_large_as_are_read(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[PROCESSING_SOFTWARE] = "colorization 0123"
    Image.new("1", (15_000, 13_000)).save(tmp_path / "large.png", exif=exif)  # 195 megapixels
    assert signature_of(tmp_path / "large.png") == "colorization 0123"
