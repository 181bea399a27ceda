"""Which workers live, and what they take, to say why a task waits.

What a worker asks of this very dispatcher is known exactly (`asks.py`). Of those that speak to another one the store
has the registration, and how many leases they hold. Who has neither (a classic client elsewhere) might take anything.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from dispatcher.queue.claim import Claim

Row = Mapping[str, Any]
MOST_PARSED = 10_000


class Living(NamedTuple):
    """Live workers: those that take tasks, those that are quiet or stop; `strangers`: there are others, of whom nothing
    is known."""

    takers: list[Claim]
    quiet: list[Claim]
    strangers: bool


def living(asks: Sequence[Claim], rows: Iterable[Row], since: int) -> Living:
    """The live workers, from what was asked here lately and the instances that were seen lately (`Reader.workers`)."""
    seen = [row for row in rows if row["seen_at"] >= since]
    alive = [row for row in seen if row["died_at"] is None]
    names = {row["worker_id"] for row in alive}
    gone = {row["worker_id"] for row in seen} - names
    at_work = {row["worker_id"] for row in alive if row["ordered"] is None}
    known = [ask for ask in asks if ask.worker_id not in gone]
    elsewhere = _elsewhere(known, alive)
    told = [(row["ordered"] is None, claim) for row in elsewhere if (claim := _registered(row)) is not None]
    told += [(ask.worker_id in at_work or ask.worker_id not in names, ask) for ask in known]
    strangers = any(row["ordered"] is None and row["about"] is None for row in elsewhere)
    return Living([claim for takes, claim in told if takes], [claim for takes, claim in told if not takes], strangers)


def _elsewhere(asks: Iterable[Claim], alive: Sequence[Row]) -> list[Row]:
    """The instances of names that have more of them than ask here."""
    here = Counter(ask.worker_id for ask in asks)
    there = Counter(row["worker_id"] for row in alive)
    return [row for row in alive if there[row["worker_id"]] > here[row["worker_id"]]]


def _registered(row: Row) -> Claim | None:
    """What a worker would ask for by its registration, as many tasks as it has room for; None without one."""
    if row["about"] is None:
        return None
    types, queues, labels, concurrency = _parsed(row["about"])
    return Claim(row["worker_id"], "", 0, max(concurrency - row["leases"], 0), types, queues, labels)


@lru_cache(MOST_PARSED)
def _parsed(about: str) -> tuple[frozenset[str], frozenset[str] | None, frozenset[str], int]:
    said = json.loads(about)
    queues = said.get("queues")
    types, labels = frozenset(said["task_types"]), frozenset(said.get("labels", ()))
    return types, None if queues is None else frozenset(queues), labels, said.get("concurrency") or 1
