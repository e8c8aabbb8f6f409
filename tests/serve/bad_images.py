"""Files that are no good images, by what is wrong with them."""

import io
import struct
import zlib

from conftest import ROOT
from PIL import Image


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, data: bytes = b"") -> bytes:
    """Return a PNG file that declares a size, whatever its data."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header)
        + _chunk(b"IDAT", zlib.compress(data)) + _chunk(b"IEND", b"")
    )  # fmt: skip


def _large_gif() -> bytes:
    file = io.BytesIO()
    Image.new("P", (8, 8)).save(file, "GIF")
    data = bytearray(file.getvalue())
    data[6:10] = struct.pack("<HH", 65535, 65535)
    return bytes(data)


def _encoded(kind: str) -> bytes:
    file = io.BytesIO()
    Image.effect_noise((320, 240), 80).convert("RGB").save(file, kind)
    return file.getvalue()


SCENE = (ROOT / "src/lxmert/examples/scene.png").read_bytes()

BAD_IMAGES = {
    "empty": b"",
    "text": b"What color is the ball?",
    "html": b"<!DOCTYPE html><html><script>alert(1)</script></html>",
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="/etc/passwd"/></svg>',
    "svg with declaration": b'<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY x SYSTEM '
    b'"file:///etc/passwd">]><svg>&x;</svg>',
    "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) show\n",
    "pdf": b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n",
    "zip": b"PK\x03\x04" + bytes(60),
    "zeros": bytes(4096),
    "truncated png": SCENE[: len(SCENE) // 2],
    "truncated jpeg": _encoded("JPEG")[:900],
    "truncated webp": _encoded("WEBP")[:900],
    "truncated bmp": _encoded("BMP")[:900],
    "header only": SCENE[:33],
    "damaged pixels": SCENE[:200] + bytes(300) + SCENE[500:],
    "100 megapixels": png(10_000, 10_000, bytes(30_010)),
    "bomb": png(60_000, 60_000, bytes(1 << 20)),
    "bomb beyond Pillow's own limit": png(100_000, 100_000),
    "sides of 32 bits": png(2**31 - 1, 2**31 - 1),
    "no pixels": png(0, 5),
    "large gif": _large_gif(),
}
