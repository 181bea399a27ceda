"""Frames from children, however the pipe cuts them."""

import pytest

from worker.children.framing import COMPLETED, HEAD, MAX_BODY, PROGRESS, STARTED, FrameError, FrameReader, frame

STREAM = frame(STARTED, 1) + frame(PROGRESS, 1, 0.0, b'{"note":"x"}') + frame(COMPLETED, 1, 0.25, b'{"a":1}')
FRAMES = [
    (STARTED, 1, 0.0, b""),
    (PROGRESS, 1, 0.0, b'{"note":"x"}'),
    (COMPLETED, 1, 0.25, b'{"a":1}'),
]


@pytest.mark.parametrize("size", [1, 2, 16, 17, 18, 40, 1000])
def test_frames_survive_any_cut(size: int) -> None:
    reader = FrameReader()
    pieces = [STREAM[at : at + size] for at in range(0, len(STREAM), size)]
    assert [one for piece in pieces for one in reader.feed(piece)] == FRAMES


def test_what_is_no_frame_is_refused() -> None:
    with pytest.raises(FrameError, match="not a frame: kind b'\\\\xff'"):
        list(FrameReader().feed(b"\xff" * HEAD.size))


@pytest.mark.parametrize("seconds", [float("inf"), float("-inf"), float("nan"), -0.5, 1e300])
def test_a_time_that_cannot_be_is_refused(seconds: float) -> None:
    with pytest.raises(FrameError, match="seconds"):
        list(FrameReader().feed(frame(COMPLETED, 1, seconds, b"{}")))


def test_frames_before_the_fault_count() -> None:
    frames = FrameReader().feed(STREAM + HEAD.pack(MAX_BODY + 1, COMPLETED, 2, 0.0))
    assert [next(frames) for _ in FRAMES] == FRAMES
    with pytest.raises(FrameError, match="length"):
        next(frames)


def test_a_text_over_the_limit_is_not_sent() -> None:
    with pytest.raises(FrameError, match="over the limit"):
        frame(COMPLETED, 1, 0.0, bytes(MAX_BODY + 1))
