"""The texts of outcomes (docs/protocol.md, Report), written alike by the child and by the supervisor.

A child imports this module at its start: it must stay small.
"""

import json
import os
import re
from hashlib import sha256
from json.encoder import encode_basestring_ascii
from typing import Any

from common.handlers.texts import clean

_FILE_NAME = re.compile(r"[A-Za-z0-9_:-][A-Za-z0-9_.:-]{0,127}")
quoted = encode_basestring_ascii  # a JSON string
_ENCODER = json.JSONEncoder(ensure_ascii=False, check_circular=False, separators=(",", ":"))


def brief(store_id: str, task_id: int, lease_id: str, seconds: float, result: str) -> str:
    """A success that has nothing more to tell, as an array."""
    return f"[{quoted(store_id)},{task_id},{quoted(lease_id)},{round(seconds * 1000)},{result}]"


def as_object(outcome: Any) -> Any:
    """A parsed outcome for people: with names, also where it is an array."""
    if not isinstance(outcome, list):
        return outcome
    store_id, task_id, lease_id, run_ms, result = outcome
    named = {"store_id": store_id, "task_id": task_id, "lease_id": lease_id}
    return {**named, "status": "completed", "result": result, "run_seconds": run_ms / 1000}


def names(store_id: str, task_id: int, lease_id: str) -> str:
    """How the text of an outcome that is an object begins."""
    return f'{{"store_id":{quoted(store_id)},"task_id":{task_id},"lease_id":{quoted(lease_id)},'


def rest(status: str, fields: str = "") -> str:
    """How it goes on and ends; `fields` is `,"name":value,…` as text."""
    return f'"status":"{status}"{fields}}}'


def failed_fields(error: str, seconds: float, *, retry: bool = True, crashed: bool = False) -> str:
    """The fields of a failed outcome; without `retry` it is final, `crashed`: it took its child with it."""
    more = ("" if retry else ',"retry":false') + (',"crashed":true' if crashed else "")
    return f',"error":{_ENCODER.encode(clean(error))},"run_seconds":{seconds:.6f}{more}'


def spool_path(folder: str, lease_id: str, suffix: str) -> str:
    """The file in the spool that belongs to a lease, whatever characters its id has."""
    name = lease_id if _FILE_NAME.fullmatch(lease_id) else sha256(lease_id.encode("utf-8", "replace")).hexdigest()
    return os.path.join(folder, name + suffix)
