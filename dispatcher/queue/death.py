"""Death, known for certain: whoever got an instance's lock reports it (DESIGN section 3)."""

from dataclasses import dataclass
from typing import NamedTuple

from dispatcher.model import End, LeaseName
from dispatcher.queue import ending
from dispatcher.queue.claim import not_dead
from dispatcher.queue.heartbeat import names_in
from dispatcher.queue.terms import Terms
from dispatcher.store.base import Tx


@dataclass(frozen=True, slots=True)
class Death:
    """Who died, who reports and adopts, and what the dead one's folder says of its leases."""

    worker_id: str
    instance_id: str
    dead_worker_id: str
    dead_instance_id: str
    outbox_leases: tuple[str, ...]
    started_leases: tuple[str, ...]


class Recorded(NamedTuple):
    """How many leases passed to the adopter, were charged, were given back."""

    adopted: int
    charged: int
    released: int


def record(tx: Tx, death: Death, terms: Terms) -> Recorded:
    """Bury an instance, even one never heard of, and settle its leases at once. Raises InstanceDead."""
    adopter = not_dead(tx.meet(death.instance_id, death.worker_id))
    dead = tx.meet(death.dead_instance_id, death.dead_worker_id)
    tx.bury(dead.id)
    own = {LeaseName(row.id, row.lease or 0) for row in tx.leases(dead.id)}
    adopted = tx.adopt([name for name in names_in(death.outbox_leases) if name in own], adopter.id, terms.silence_ms)
    started = set(names_in(death.started_leases))
    rows = [(row, LeaseName(row.id, row.lease or 0) in started) for row in tx.leases(dead.id)]
    ends = ending.lost(tx, rows, End.DIED)
    tx.end(ends)
    return Recorded(len(adopted), sum(end.charged for end in ends), sum(not end.charged for end in ends))
