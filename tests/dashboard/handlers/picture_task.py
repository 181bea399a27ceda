"""Draws a picture: a small SVG or PNG as bytes."""

import struct
import zlib
from typing import Any


def execute(payload: dict[str, Any], context: Any) -> bytes:
    """The picture; one in SVG carries a script, which must stay inert."""
    context.log("drawing <b>now</b>")
    context.progress(1, 2, "half way")
    if payload.get("svg"):
        return b"""<svg xmlns="http://www.w3.org/2000/svg" width="320" height="120" viewBox="0 0 320 120">
<rect width="320" height="120" fill="#eef3fb"/><path d="M10 100 C80 10 140 120 310 20" fill="none" stroke="#2457c5"
stroke-width="4"/><script>document.title = "owned"; window.owned = 1</script></svg>"""
    rows = b"".join(b"\0" + bytes((x * 2, y * 2, 160)[i] for x in range(120) for i in range(3)) for y in range(80))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in (
            (b"IHDR", struct.pack(">IIBBBBB", 120, 80, 8, 2, 0, 0, 0)),
            (b"IDAT", zlib.compress(rows)),
            (b"IEND", b""),
        )
    )
