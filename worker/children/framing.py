"""What a child says to its supervisor: frames on a pipe of their own.

A frame is a head of 17 bytes and a text: the text's length, a kind, the task's number, seconds, then JSON in UTF-8.
The head is binary so that the supervisor learns what it must know without parsing a result; the text of an outcome
passes through it untouched. In the other direction tasks come by their line (`line.py`).
"""

import struct
from collections.abc import Iterator

from common.handlers.defaults import TEN_YEARS  # more is refused by the dispatcher

HEAD = struct.Struct(">IcId")
MAX_BODY = 16 * 1024 * 1024

STARTED = b"S"  # the task begins; no text
COMPLETED = b"C"  # the text is the result
LOGGED = b"G"  # completed by a handler that logged; the text is the rest of the outcome, after the names
STORED = b"L"  # completed; the result lies in the spool, the text is the outcome that refers to it
FAILED = b"F"  # the text is the outcome
SNOOZED = b"Z"  # the handler asks to be run later; the text is the outcome
STOPPED = b"X"  # the handler ended because it was told to; no text
PROGRESS = b"P"  # the text is an update of progress, note, checkpoint
ENDS = frozenset((COMPLETED, LOGGED, STORED, FAILED, SNOOZED, STOPPED))
STATUS = {COMPLETED: "completed", LOGGED: "completed", STORED: "completed", FAILED: "failed", SNOOZED: "snoozed"}
KINDS = ENDS | {STARTED, PROGRESS}


class FrameError(Exception):
    """The bytes are not frames, or not the frames that may come now."""


Frame = tuple[bytes, int, float, bytes]  # kind, number, seconds that the handler ran (if it ends a task), text


def frame(kind: bytes, number: int, seconds: float = 0.0, body: bytes = b"") -> bytes:
    """The bytes of one frame; raises FrameError when the text is over MAX_BODY bytes."""
    if len(body) > MAX_BODY:
        raise FrameError(f"a frame of {len(body)} bytes is over the limit of {MAX_BODY}")
    return HEAD.pack(len(body), kind, number, seconds) + body


class FrameReader:
    """Cuts a stream of bytes into frames; keeps the piece of one that is not complete."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that are complete now; raises FrameError at the first thing that is none."""
        if self._rest:
            data = self._rest + data
        at, size = 0, len(data)
        while (begin := at + HEAD.size) <= size:
            length, kind, number, seconds = HEAD.unpack_from(data, at)
            if length > MAX_BODY or kind not in KINDS or not 0 <= seconds <= TEN_YEARS:
                raise FrameError(f"not a frame: kind {kind!r}, length {length}, seconds {seconds}")
            if (end := begin + length) > size:
                break
            yield kind, number, seconds, data[begin:end]
            at = end
        self._rest = data[at:]
