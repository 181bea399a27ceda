"""Claim: who gets which tasks. A claim never ends leases and, when it gets nothing, writes nothing (I10)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeGuard, TypeVar

from dispatcher.errors import InstanceDead
from dispatcher.model import KEYED, End, Grant, Granted, Instance, Lane, LeaseEnd, LeaseName, Orders, State, chars_of
from dispatcher.queue.blame import NOBODY, Blame
from dispatcher.queue.terms import PROVISIONAL_MS, Terms
from dispatcher.queue.turns import take, turns
from dispatcher.store.base import Tx

MaybeInstance = TypeVar("MaybeInstance", Instance, Instance | None)
ANSWER_CHARS = 16 * 2**20  # where a claim stops taking
MOST_CHARS = 2 * ANSWER_CHARS  # of an answer
NO_ORDERS = Orders()


@dataclass(frozen=True, slots=True)
class Claim:
    """What a worker asks for; None for types or queues means all of them."""

    worker_id: str
    instance_id: str
    request_id: int
    max_tasks: int
    task_types: frozenset[str] | None = None
    queues: frozenset[str] | None = None
    labels: frozenset[str] = frozenset()
    wait_ms: int = 0
    orders: Orders = NO_ORDERS
    host: str | None = None  # of one that waits: what a heartbeat would say of the worker's machine, JSON text

    def fits(self, lane: Lane, shunned: frozenset[str]) -> bool:
        """Whether the worker may have tasks of a lane; types that it shall not get are `shunned`."""
        return lane.task_type not in shunned and _eligible(lane, self)


class Claimed(NamedTuple):
    """The answer: leased tasks, whether they are provisional, and orders."""

    tasks: Sequence[Granted]
    provisional: bool
    orders: Orders


def claim(tx: Tx, asked: Claim, terms: Terms, only_repeat: bool = False, blame: Blame = NOBODY) -> list[Granted]:
    """Lease tasks to an instance, or repeat what this number was granted. Raises InstanceDead."""
    instance = not_dead(tx.instance(asked.instance_id))
    if is_repeat(instance, asked):
        return _repeat(tx, instance, asked.request_id, terms)
    return [] if only_repeat else grant(tx, asked, tx.ready_lanes(), terms, blame=blame)


def grant(
    tx: Tx, asked: Claim, lanes: Iterable[Lane], terms: Terms, provisional: bool = False, blame: Blame = NOBODY
) -> list[Granted]:
    """Lease ready tasks of those lanes that are eligible, fairly between queues; a dead instance gets none. Another
    dispatcher may have answered the number meanwhile: then what that one granted is repeated. One that waits
    (`provisional`) is passed over while another dispatcher has its instance in hand."""
    queues = turns(tx, _by_queue(lanes, asked, blame)) if asked.max_tasks > 0 else []
    if not queues:
        return []
    meet = tx.meet_at_once if provisional else tx.meet
    instance = meet(asked.instance_id, asked.worker_id)
    if instance is None or instance.died_at is not None:
        return []
    if is_repeat(instance, asked):
        return _repeat(tx, instance, asked.request_id, terms)
    if instance.ordered:
        return []
    length = PROVISIONAL_MS if provisional else terms.lease_ms
    spared = blame.tasks(asked.worker_id, tx.now.wall)
    terms_of = Grant(instance.id, asked.request_id, length, provisional, spared)
    taken = take(tx, queues, asked.max_tasks, terms_of, ANSWER_CHARS)
    granted = _fitting(tx, taken)
    if granted:
        tx.answered(instance.id, asked.request_id)
    return granted


def claim_classic(
    tx: Tx, worker_id: str, terms: Terms, types: frozenset[str] | None = None, blame: Blame = NOBODY
) -> Granted | None:
    """Lease one task the classic way: no instance, no numbers; any type and any queue unless types are named."""
    asked = Claim(worker_id, "", 0, 1, task_types=types)
    queues = turns(tx, _by_queue(tx.ready_lanes(), asked, blame))
    if not queues:
        return None
    instance = tx.meet(None, worker_id)
    if instance.ordered:
        return None
    number = instance.answered + 1  # a classic client sends none; ours says which of its leases is the newest
    spared = blame.tasks(worker_id, tx.now.wall)
    granted = take(tx, queues, 1, Grant(instance.id, number, terms.lease_ms, False, spared), ANSWER_CHARS)
    if granted:
        tx.answered(instance.id, number)
    return granted[0] if granted else None


def is_repeat(instance: Instance | None, asked: Claim) -> TypeGuard[Instance]:
    """Whether this number, or a higher one, was answered with tasks: it gets nothing new."""
    return instance is not None and asked.request_id <= instance.answered


def not_dead(instance: MaybeInstance) -> MaybeInstance:
    """The instance, if it is known; raises InstanceDead, for a dead one gets no leases."""
    if instance is not None and instance.died_at is not None:
        raise InstanceDead
    return instance


def orders_for(tx: Tx, instance_id: str) -> Orders:
    """What every reply to this instance tells it."""
    instance = tx.instance(instance_id)
    if instance is None:
        return Orders()
    return orders(instance.ordered, tx.cancel_orders([instance.id]).get(instance.id, ()))


def orders(ordered: str | None, cancel: Iterable[LeaseName] = ()) -> Orders:
    """Orders as replies name them, from what is stored of them."""
    state, _, now = (ordered or "run").partition("_")
    return Orders(state, cancelled(cancel), now=bool(now))


def cancelled(names: Iterable[LeaseName]) -> tuple[str, ...]:
    """The leases to stop as orders name them."""
    return tuple(str(name) for name in names)


def _repeat(tx: Tx, instance: Instance, request: int, terms: Terms) -> list[Granted]:
    held = {LeaseName(task.task_id, task.token): task for task in tx.held(instance.id, request)}
    live = tx.renew(list(held), terms.lease_ms)  # what another dispatcher has just ended is not handed out
    return [task._replace(length=terms.lease_ms) for name, task in held.items() if name in live]


def _by_queue(lanes: Iterable[Lane], asked: Claim, blame: Blame) -> dict[str, list[int]]:
    """The eligible lanes of each queue."""
    queues: dict[str, list[int]] = {}
    shunned = blame.types(asked.worker_id)
    for lane in lanes:
        if asked.fits(lane, shunned):
            queues.setdefault(lane.queue, []).append(lane.id)
    return queues


def _eligible(lane: Lane, asked: Claim) -> bool:
    """Whether a claim may take tasks of a lane."""
    return (
        (asked.task_types is None or lane.task_type in asked.task_types)
        and (asked.queues is None or lane.queue in asked.queues)
        and (not lane.requires or all(label in asked.labels or label == KEYED for label in lane.requires))
    )


def _fitting(tx: Tx, taken: list[Granted]) -> list[Granted]:
    """As many as fit into an answer, at least one; should a store have taken more, the leases of the rest end at once,
    uncounted."""
    fitting = len(taken)
    while fitting > 1 and chars_of(taken[:fitting]) > MOST_CHARS:
        fitting -= 1
    rest = [LeaseName(task.task_id, task.token) for task in taken[fitting:]]
    tx.end([LeaseEnd(name, End.RELEASED, None, False, State.PENDING) for name in rest])
    return taken[:fitting]
