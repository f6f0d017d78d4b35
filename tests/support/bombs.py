"""Pictures that are small until they are decoded."""

import zlib


def bomb(side: int = 12_000) -> bytes:
    """Return a gray PNG of so many pixels a side, 144 megapixels in 140 kilobytes."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = zlib.crc32(kind + content).to_bytes(4, "big")
        return len(content).to_bytes(4, "big") + kind + content + check

    length = side.to_bytes(4, "big")
    header = chunk(b"IHDR", length + length + b"\x08\x00\x00\x00\x00")
    pixels = chunk(b"IDAT", zlib.compress(bytes(side * (side + 1)), 9))
    return b"\x89PNG\r\n\x1a\n" + header + pixels + chunk(b"IEND", b"")
