"""Files that Pillow cannot write: PNG of 16 bits a channel, and TIFF with all of its metadata."""

import io
import struct
import zlib

import cv2
import numpy as np
from PIL import ExifTags, Image, TiffImagePlugin, TiffTags

from colorization.icc import srgb_profile
from colorization.metadata import Metadata

_STRIP_BYTES = 2**20
_XMP_KEYWORD = b"XML:com.adobe.xmp"


def encode_deep_png(rgb: np.ndarray, alpha: np.ndarray | None, metadata: Metadata) -> bytes:
    """Encode uint16 (H, W, 3), and alpha (H, W), as PNG."""
    channels = [rgb[..., ::-1]] if alpha is None else [rgb[..., ::-1], alpha[..., None]]
    done, encoded = cv2.imencode(".png", np.ascontiguousarray(np.concatenate(channels, axis=2)))
    if not done:
        raise ValueError(f"cannot encode {rgb.shape} 16-bit pixels as PNG")
    content = encoded.tobytes()
    header = 8 + 25  # the signature and the first chunk, which the others follow
    chunks = b"".join(_chunk(kind, data) for kind, data in _png_metadata(metadata))
    return content[:header] + chunks + content[header:]


def _png_metadata(metadata: Metadata) -> list[tuple[bytes, bytes]]:
    chunks: list[tuple[bytes, bytes]] = []
    if metadata.tagged:
        chunks.append((b"iCCP", b"ICC Profile\0\0" + zlib.compress(srgb_profile())))
    if metadata.dpi is not None:
        across, down = (round(dpi / 0.0254) for dpi in metadata.dpi)
        chunks.append((b"pHYs", struct.pack(">IIB", across, down, 1)))
    if metadata.exif:
        chunks.append((b"eXIf", metadata.exif.removeprefix(b"Exif\x00\x00")))
    if metadata.xmp:
        chunks.append((b"iTXt", _XMP_KEYWORD + b"\0\0\0\0\0" + metadata.xmp))
    return chunks


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def encode_tiff(rgb: np.ndarray, alpha: np.ndarray | None, metadata: Metadata) -> bytes:
    """Encode uint8 or uint16 (H, W, 3), and alpha (H, W), as TIFF: deflate, by differences along
    rows."""
    height, width = rgb.shape[:2]
    channels = 3 if alpha is None else 4
    rows = max(1, _STRIP_BYTES // (rgb.itemsize * channels * width))
    strips: list[bytes] = []
    for top in range(0, height, rows):
        pixels = rgb[top : top + rows]
        if alpha is not None:
            pixels = np.concatenate([pixels, alpha[top : top + rows, :, None]], axis=2)
        differences = pixels.astype(pixels.dtype.newbyteorder("<"))
        differences[:, 1:] -= pixels[:, :-1]
        strips.append(zlib.compress(differences.tobytes()))
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    if metadata.exif:
        exif = Image.Exif()
        exif.load(metadata.exif)
        for tag, value in exif.items():
            below = tag in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)
            tags[tag] = exif.get_ifd(tag) if below else value
    tags[256], tags[257] = width, height
    tags[258] = (8 * rgb.itemsize,) * channels
    tags[259], tags[262], tags[277], tags[278], tags[317] = 8, 2, channels, rows, 2
    if alpha is not None:
        tags[338] = 2  # alpha that does not multiply
    if metadata.dpi is not None:
        tags[282], tags[283], tags[296] = metadata.dpi[0], metadata.dpi[1], 2
    if metadata.xmp:
        tags[700] = metadata.xmp
    if metadata.tagged:
        tags[34675] = srgb_profile()
    sizes = [len(strip) for strip in strips]
    tags.tagtype[279] = tags.tagtype[273] = TiffTags.LONG
    tags[279] = tuple(sizes)
    tags[273] = tuple(
        int(start) for start in np.cumsum([0, *sizes[:-1]])
    )  # made absolute by Pillow
    buffer = io.BytesIO()
    tags.save(buffer)
    buffer.seek(0, io.SEEK_END)
    buffer.writelines(strips)
    return buffer.getvalue()
