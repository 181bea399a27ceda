"""The texts of outcomes (docs/protocol.md, Report), written alike by the child and by the supervisor.

A child imports this module at its start: it must stay small.
"""

import json
import os
import re
from hashlib import sha256
from json.encoder import encode_basestring_ascii

ERROR_BYTES = 64 * 1024
_OURS = os.path.dirname(__file__)
_SUMMARY_BYTES = 4 * 1024
_FILE_NAME = re.compile(r"[A-Za-z0-9_:-][A-Za-z0-9_.:-]{0,127}")
quoted = encode_basestring_ascii  # a JSON string
_ENCODER = json.JSONEncoder(ensure_ascii=False, check_circular=False, separators=(",", ":"))


def names(store_id: str, task_id: int, lease_id: str) -> str:
    """How the text of an outcome begins."""
    return f'{{"store_id":{quoted(store_id)},"task_id":{task_id},"lease_id":{quoted(lease_id)},'


def rest(status: str, fields: str = "") -> str:
    """How it goes on and ends; `fields` is `,"name":value,…` as text."""
    return f'"status":"{status}"{fields}}}'


def failed_fields(error: str, seconds: float, *, retry: bool = True, crashed: bool = False) -> str:
    """The fields of a failed outcome; without `retry` it is final, `crashed`: it took its child with it."""
    more = ("" if retry else ',"retry":false') + (',"crashed":true' if crashed else "")
    return f',"error":{_ENCODER.encode(clean(error))},"run_seconds":{seconds:.6f}{more}'


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
        while frames is not None and os.path.dirname(frames.tb_frame.f_code.co_filename) == _OURS:
            frames = frames.tb_next
        return f"{summary}\n" + "".join(traceback.format_exception(type(error), error, frames))
    except Exception:  # an exception whose text cannot be made, or no memory left for it
        return type(error).__name__


def spool_path(folder: str, lease_id: str, suffix: str) -> str:
    """The file in the spool that belongs to a lease, whatever characters its id has."""
    name = lease_id if _FILE_NAME.fullmatch(lease_id) else sha256(lease_id.encode("utf-8", "replace")).hexdigest()
    return os.path.join(folder, name + suffix)
