"""Silence: what ends a lease without a word from its holder, and what brings it back (DESIGN mechanisms 1 to 3)."""

from collections.abc import Collection, Sequence

from dispatcher.model import LOST, SILENT, End, EndedLease, Instance, LeaseName, State, TaskRow
from dispatcher.queue import deadlines, ending
from dispatcher.queue.terms import Terms
from dispatcher.queue.turns import may_return
from dispatcher.store.base import Tx


def reap(tx: Tx, limit: int) -> int:
    """End the leases whose time is over; how many. A provisional one was perhaps never received: uncharged."""
    over = [(row, not row.lease_provisional) for row in tx.expired(limit)]
    return len(tx.end(ending.lost(tx, over, End.EXPIRED)))


def end_unlisted(tx: Tx, instance: Instance, held: Collection[LeaseName], in_flight: Collection[int]) -> None:
    """Leases missing from two successive heartbeats, whose claim was not in flight, end; `held` were not."""
    others = tx.leases(instance.id, but=[name.task_id for name in held])
    missing = [row for row in others if row.lease_request not in in_flight]
    tx.end(ending.lost(tx, [(row, False) for row in missing if row.lease_misses], End.UNLISTED))
    tx.miss([LeaseName(row.id, row.lease or 0) for row in missing if not row.lease_misses])


def take_back(tx: Tx, instance: Instance, names: Sequence[LeaseName], terms: Terms) -> set[LeaseName]:
    """Leases that ended by silence and that their living holder still lists become live again where nothing stands
    against it; the names that did."""
    # few: most that are not live have been reported meanwhile; what has ended changes only under the lock of its task,
    # or by a heartbeat of the same instance
    over = tx.ended(names)
    rows = tx.tasks([name.task_id for name in over]) if over else {}
    back = set()
    for name, ended in over.items():
        row = rows.get(name.task_id)  # None: deleted meanwhile
        if row is None or ended.instance != instance.id or not _may_return(tx, row, ended):
            continue
        if may_return(tx, row) and tx.revive(ended, terms.silence_ms, count=not ended.charged):
            back.add(name)
            if row.state == State.FAILED:
                deadlines.go_on(tx, row)
    return back


def _may_return(tx: Tx, row: TaskRow, ended: EndedLease) -> bool:
    if ended.how not in SILENT or ended.generation != row.generation:
        return False
    if row.state == State.FAILED and row.cancel_requested_at is not None:
        return False  # its time was over
    if row.state == State.FAILED:
        last = tx.last_end(row.id)
        return last is not None and last.how in LOST
    return row.state == State.PENDING
