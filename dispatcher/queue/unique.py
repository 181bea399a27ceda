"""Unique tasks: a business rule about twins, beside the idempotency of submits (docs/later.md).

A key has one holder, the newest task that was submitted under it. Who submits under the key is judged by its own
`unique_for`: a twin is the holder while it is unfinished, or for a period since the holder's submit. The key of a task
stands in its options, so that a retry knows it: two unfinished tasks never share one.
"""

import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from dispatcher.queue import options
from dispatcher.store.base import Tx
from dispatcher.store.later import Holder


class Named(Protocol):
    """What is submitted, as far as it matters here."""

    @property
    def unique_key(self) -> str | None: ...
    @property
    def unique_for_ms(self) -> int | None: ...


class Twins(NamedTuple):
    """Those of some submits that already exist: position → id of the twin, or None for the one that comes with them
    under the same key; and the keys that have a holder."""

    of: Mapping[int, int | None]
    known: frozenset[str]


NONE = Twins({}, frozenset())


def twins(tx: Tx, submits: Sequence[Named]) -> Twins:
    """Which of these have a twin. Costs nothing when none of them has a key."""
    keys = {s.unique_key for s in submits if s.unique_key is not None}
    if not keys:
        return NONE
    holders = tx.holders(list(keys))
    found: dict[int, int | None] = {}
    new: set[str] = set()
    for n, submit in enumerate(submits):
        key = submit.unique_key
        if key is None:
            continue
        if key in new:
            found[n] = None
        elif key in holders and _is_twin(holders[key], submit.unique_for_ms, tx.now.wall):
            found[n] = holders[key].task_id
        else:
            new.add(key)
    return Twins(found, frozenset(holders))


def _is_twin(holder: Holder, period_ms: int | None, now: int) -> bool:
    return holder.unfinished if period_ms is None else now < holder.since + period_ms


def named(text: str | None, key: str) -> str:
    """The options of a task, its unique key among them."""
    return json.dumps({**json.loads(text or "{}"), "unique_key": key})


def free_to_return(tx: Tx, ids: Sequence[int]) -> tuple[list[int], set[int]]:
    """Those of some ended tasks that may become unfinished again, and those whose key another unfinished task holds.
    Of several that share a key the first may. Who returns holds the key."""
    keys = {task_id: found.unique_key for task_id, found in options.of(tx, ids).items() if found.unique_key is not None}
    if not keys:
        return list(ids), set()
    holders = dict(tx.holders(list(set(keys.values()))))
    known = frozenset(holders)
    taken: set[int] = set()
    holds: dict[str, tuple[int, int]] = {}
    for task_id, key in keys.items():
        holder = holders.get(key)
        if holder is not None and holder.unfinished and holder.task_id != task_id:
            taken.add(task_id)
        else:
            holds[key] = (task_id, tx.now.wall if holder is None else holder.since)
            holders[key] = Holder(*holds[key], True)
    tx.hold(holds, known)
    return [task_id for task_id in ids if task_id not in taken], taken
