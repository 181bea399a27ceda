"""What the queue does by itself, and for other dispatchers: the operations behind the loops of maintenance."""

from collections.abc import Collection, Mapping
from functools import partial

from dispatcher.meters import Totals
from dispatcher.model import Orders
from dispatcher.queue import silence, webhooks
from dispatcher.queue.claim import orders
from dispatcher.queue.kept import Kept
from dispatcher.queue.pace import Pace
from dispatcher.queue.schemas import Schemas
from dispatcher.queue.terms import Terms
from dispatcher.queue.waiting import Waiting
from dispatcher.queue.watch import Watchers
from dispatcher.store.base import Store, Tx
from dispatcher.store.webhooks import Hook

REAP_LIMIT = 100
NOTE_LIMIT = 1_000  # instances in one write
LEARN_MS = 2_000  # how often it is looked for schemas that came to another dispatcher


def _make_ready(tx: Tx, limit: int) -> int:
    made = tx.make_ready(limit)
    tx.settle_keys()  # which belongs to what the step costs
    return made


def _see(hosts: Mapping[str, str | None], tx: Tx) -> None:
    tx.seen_waiting(hosts)


class Upkeep:
    """A part of the queue."""

    store: Store
    terms: Terms
    waiting: Waiting
    watchers: Watchers
    schemas: Schemas
    hooks: Totals
    kept: Kept
    _learned: int

    def live_leases(self) -> int:
        """How many leases are live."""
        return self.kept.read(self.store, "live_leases", lambda reader: reader.live_leases())

    def next_due(self) -> int | None:
        """When the next task that is not ready becomes due, or is let in by its key's rate, UTC milliseconds."""
        return self.kept.read(self.store, "next_due", lambda reader: reader.next_due())

    def reap(self, last: int | None) -> tuple[int, int | None]:
        """One pass over expired leases: how many ended, and when it was on the steady clock. `last` is when the last
        pass succeeded; after a gap, judged inside the transaction, every live lease gets its full length anew first."""

        def step(tx: Tx) -> tuple[int, int | None]:
            passed = tx.touch(last)
            if passed is None:
                return 0, last
            if abs(tx.now.steady - passed) > self.terms.gap_ms:  # a clock that was set back is a gap, too
                tx.extend_all(self.terms.silence_ms)
            return silence.reap(tx, REAP_LIMIT), tx.now.steady

        return self.store.write(step)

    def look_around(self) -> int:
        """What other dispatchers did, for those who wait here: tasks made ready, orders left, tasks ended; and the
        schemas that they learned. How many waited."""
        claims, watched = len(self.waiting), self.watchers.watched()
        if claims:
            self.waiting.dismiss_ordered(self.store.write(self._look))
        if watched or self.store.now().wall - self._learned > LEARN_MS:
            self._look_up(watched)
        return claims + len(watched)

    def note_waiting(self) -> int:
        """Record that those who wait are here, as heartbeats would; how many. Writes nothing when nobody does."""
        hosts = list(self.waiting.hosts().items())
        for start in range(0, len(hosts), NOTE_LIMIT):
            self.store.write(partial(_see, dict(hosts[start : start + NOTE_LIMIT])))
        return len(hosts)

    def _look_up(self, watched: list[int]) -> None:
        with self.store.read() as reader:
            ended = reader.ended_among(watched) if watched else []
            schemas = reader.type_schemas()
        self._learned = self.store.now().wall
        self.watchers.ended(ended)
        if self.schemas.is_news(schemas):
            self.schemas.learn(schemas)

    def _look(self, tx: Tx) -> dict[int, Orders]:
        tx.look_afresh()
        known = self.waiting.states()
        cancel, states = tx.cancel_orders(list(known)), tx.ordered(list(known))
        told = {instance: orders(states.get(instance), cancel.get(instance, ())) for instance in known}
        return {i: new for i, new in told.items() if i in cancel or new.said != known[i]}

    def make_ready(self, pace: Pace) -> int:
        """Make due tasks ready, as many as `pace` says; how many."""
        return pace.write(lambda tx: _make_ready(tx, pace.size))

    def give_back(self, pages: int) -> int:
        """Return free pages of the database to the file system; how many."""
        return self.store.write(lambda tx: tx.give_back(pages))

    def prune_leftovers(self, before: int, limit: int) -> int:
        """Delete what no task needs any more; how many."""
        return self.store.write(lambda tx: tx.prune_leftovers(before, limit))

    # webhooks
    def take_hooks(self, limit: int, spared: Collection[str] = (), since: int = 0) -> list[Hook]:
        """Deliveries to be tried now, none to the spared hosts; nothing is written when there are none. Those that were
        due before `since` (UTC milliseconds) are known to be to spared hosts, and passed over quickly."""
        with self.store.read() as reader:
            due = reader.next_hook()
        if due is None or due > self.store.now().wall:
            return []
        return self.store.write(lambda tx: webhooks.take(tx, limit, spared, since))

    def settle_hook(self, hook: Hook, delivered: bool) -> str:
        """Record a try of a delivery; what became of it."""
        became = self.store.write(lambda tx: webhooks.settle(tx, hook, delivered))
        self.hooks.add(became)
        return became

    def open_hooks(self) -> int:
        """How many deliveries are open, counted up to a bound."""
        with self.store.read() as reader:
            return reader.open_hooks()
