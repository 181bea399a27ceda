"""Uploaded results: parts under a lease, each its own write, whole or not at all (DESIGN section 5; I4)."""

import secrets
from collections.abc import Iterable, Sequence
from typing import Any

from dispatcher.errors import Foreign, NotFound, Unavailable
from dispatcher.model import End, LeaseName, Outcome, State, Upload
from dispatcher.queue.pace import STEP_PARTS
from dispatcher.store.base import Store, Tx
from dispatcher.store.packing import PACK_OVER, pack


def put(store: Store, name: LeaseName, store_id: str, media_type: str, parts: Iterable[bytes], digest: Any) -> Upload:
    """Store an uploaded result part by part; `digest` has hashed all parts at their end. Of two uploads of one lease
    the one that began later goes on. Raises Foreign, NotFound, and Unavailable when another one came between."""
    if store_id != store.store_id:
        raise Foreign
    while store.write(lambda tx: _make_room(tx, name)):
        pass
    size, own = 0, secrets.randbits(62)
    for number, data in enumerate(parts):
        packed = pack(data)
        part = (number, data, own, None) if packed is None else (number, packed, own, len(data))
        if not store.write(lambda tx, part=part: _put_part(tx, name, *part)):  # type: ignore[misc]
            raise Unavailable("another upload of this result came between")
        size += len(data)
    upload = Upload(size, digest.hexdigest(), media_type)
    if not store.write(lambda tx: has_won(tx, name) or tx.put_upload(name, upload, own)):
        raise Unavailable("another upload of this result came between")
    return upload


def _make_room(tx: Tx, name: LeaseName) -> int:
    """A few parts of an earlier upload go; how many. Raises NotFound for a lease that never was."""
    row = tx.tasks([name.task_id]).get(name.task_id)
    if row is None or (row.lease != name.token and name not in tx.ended([name])):
        raise NotFound(f"lease {name}")
    return 0 if has_won(tx, name) else tx.drop_parts(name, STEP_PARTS)


def _put_part(tx: Tx, name: LeaseName, part: int, data: bytes, upload: int, size: int | None) -> bool:
    """A result that has won is never touched again (I4): what comes for it is dropped."""
    if not tx.tasks([name.task_id]):
        raise NotFound(f"lease {name}")
    return has_won(tx, name) or tx.put_part(name, part, data, upload, size)


def has_won(tx: Tx, name: LeaseName) -> bool:
    """Whether this lease's result is the task's own."""
    row = tx.tasks([name.task_id]).get(name.task_id)
    return row is not None and row.state == State.COMPLETED and row.lease == name.token


def bounded(outcome: Outcome, most_bytes: int) -> Outcome:
    """The outcome; one with a result over the limit, inline or uploaded, becomes a failed attempt that says so."""
    size = _size(outcome)
    if size <= most_bytes:
        return outcome
    error = f"the result is too large: {size} bytes, the limit is {most_bytes} (RESULT_MAX_BYTES)"
    return outcome._replace(status=End.FAILED, result=None, upload=None, error=error)


def _size(outcome: Outcome) -> int:
    if outcome.upload is not None:
        return outcome.upload.bytes
    text = outcome.result or ""
    return len(text) if text.isascii() else len(text.encode())


def lean(outcomes: Sequence[Outcome]) -> Sequence[Outcome]:
    """The outcomes with large results packed. Runs before the write, so that no other operation waits for it."""
    if all(outcome.result is None or len(outcome.result) <= PACK_OVER for outcome in outcomes):
        return outcomes
    return [_lean(outcome) for outcome in outcomes]


def _lean(outcome: Outcome) -> Outcome:
    packed = None if outcome.result is None else pack(outcome.result.encode())
    return outcome if packed is None else outcome._replace(result=None, packed=packed)
