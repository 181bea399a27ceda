"""Heartbeat: one request for all leases of an instance; the reply carries verdicts and orders."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from dispatcher.model import LeaseName, Orders, Progress
from dispatcher.queue import output, silence
from dispatcher.queue.claim import not_dead, orders_for
from dispatcher.queue.terms import Terms
from dispatcher.store.base import Tx


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """What an instance says of itself; `leases` maps each listed lease_id to what is new about it."""

    worker_id: str
    instance_id: str
    seq: int
    leases: Mapping[str, Progress | None]
    in_flight: Collection[int] = ()
    host: str | None = None
    store_id: str | None = None
    types: Mapping[str, str | None] | None = None
    about: str | None = None
    defaults: Mapping[str, str | None] | None = None  # what those types want unless a task says otherwise, JSON text


class Answered(NamedTuple):
    """Per lease_id `ok`, `cancel`, `lost` or `foreign`; orders; when it was, UTC milliseconds; False when outdated."""

    leases: dict[str, str]
    orders: Orders
    at: int
    taken: bool = True


def heartbeat(
    tx: Tx, beat: Heartbeat, own_store: str, terms: Terms, news: bool = False
) -> Answered:  # fmt: skip
    """Renew what is listed, end what is not, take back what silence ended; `news`: its task types are to be learned.
    Raises InstanceDead."""
    instance = not_dead(tx.meet(beat.instance_id, beat.worker_id))
    if beat.seq <= instance.seq:
        return Answered({}, orders_for(tx, beat.instance_id), tx.now.wall, taken=False)
    tx.seen(instance.id, beat.seq, beat.host)
    if news and beat.types:
        tx.register_types(beat.types)
        tx.register_defaults({name: (beat.defaults or {}).get(name) for name in beat.types})
    if beat.about is not None:
        tx.register(instance.id, beat.about)
    if beat.store_id not in (None, own_store):
        return Answered(dict.fromkeys(beat.leases, "foreign"), orders_for(tx, beat.instance_id), tx.now.wall)
    named = {name: lease_id for lease_id in beat.leases if (name := LeaseName.parse(lease_id))}
    held = tx.renew(list(named), terms.silence_ms)
    held |= silence.take_back(tx, instance, [name for name in named if name not in held], terms)
    silence.end_unlisted(tx, instance, held, beat.in_flight)
    said = [told for name, lease_id in named.items() if name in held and (told := beat.leases[lease_id])]
    tx.progress(said)
    output.record(tx, said)
    orders = orders_for(tx, beat.instance_id)
    return Answered(_answers(tx, beat.leases, {named[name] for name in held}, orders), orders, tx.now.wall)


def _answers(tx: Tx, listed: Collection[str], held: set[str], orders: Orders) -> dict[str, str]:
    answers = {lease_id: "ok" if lease_id in held else "lost" for lease_id in listed}
    answers.update(dict.fromkeys(held.intersection(orders.cancel), "cancel"))
    return answers


def heartbeat_classic(tx: Tx, worker_id: str, host: str | None, terms: Terms) -> int:
    """A classic heartbeat names no leases: it renews the newest one that this worker_id claimed the classic way."""
    instance = tx.meet(None, worker_id)
    tx.seen(instance.id, 0, host)
    newest = tx.newest_of(instance.id, None)
    tx.renew([newest] if newest else [], terms.silence_ms)
    return tx.now.wall


def names_in(leases: Sequence[str]) -> list[LeaseName]:
    """The lease names among texts; what cannot be one of ours is left out."""
    return [name for lease_id in leases if (name := LeaseName.parse(lease_id))]
