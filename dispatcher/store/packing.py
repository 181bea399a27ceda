"""Large results are stored compressed where that makes them smaller. Nothing here runs in the writer's thread."""

import zlib

PACK_OVER = 16 * 1024  # what is smaller stays as it came
SAMPLE = 64 * 1024
WORTH = 0.9  # less is not worth the time of everyone who reads it
LEVEL = 1


def pack(data: bytes) -> bytes | None:
    """The data compressed; None when that gains too little, which a sample tells of images and archives."""
    if len(data) <= PACK_OVER or _gains_little(data[:SAMPLE]):
        return None
    packed = zlib.compress(data, LEVEL)
    return packed if len(packed) < WORTH * len(data) else None


def _gains_little(sample: bytes) -> bool:
    return len(zlib.compress(sample, LEVEL)) >= WORTH * len(sample)


def unpack(data: bytes, size: int | None) -> bytes:
    """What was put in; `size` is None for what is stored as it came."""
    return bytes(data) if size is None else zlib.decompress(data, bufsize=max(size, 1))


def unpack_text(packed: bytes) -> str:
    """A packed JSON text."""
    return zlib.decompress(packed).decode()
