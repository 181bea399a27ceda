"""What is said of an attempt, as text. A child imports this module at its start: it must stay small."""

import os

ERROR_BYTES = 64 * 1024
_CODE = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
_OURS = tuple(os.path.join(_CODE, folder, "") for folder in ("client", "common", "worker"))
_SUMMARY_BYTES = 4 * 1024


def clean(text: str, limit: int = ERROR_BYTES) -> str:
    """The text made valid for the JSON profile and cut to `limit` bytes of UTF-8: its beginning and its end stay."""
    data = text.replace("\0", "\\0").encode("utf-8", "backslashreplace")
    if len(data) > limit:
        beginning = data[: min(_SUMMARY_BYTES, limit // 2)] + b"\n...\n"
        data = beginning + data[len(beginning) - limit :]
    return data.decode("utf-8", "ignore")


def explained(error: BaseException, reason: str = "") -> str:
    """An exception as `ValueError: why`, or its reason, and its traceback, from the handler's frame on."""
    try:
        import traceback  # here: most children never need it

        summary = reason or "".join(traceback.format_exception_only(type(error), error)).strip()
        frames = error.__traceback__
        while frames is not None and frames.tb_frame.f_code.co_filename.startswith(_OURS):
            frames = frames.tb_next
        return f"{summary}\n" + "".join(traceback.format_exception(type(error), error, frames))
    except Exception:  # an exception whose text cannot be made, or no memory left for it
        return type(error).__name__
