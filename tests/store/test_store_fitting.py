"""What is large: claims take what an answer holds, results lie compressed, retention goes by queue."""

import hashlib
import json
import os
import zlib

import pytest
from store_kit import DAY, HOUR, SECOND, Mill, kept_for, name

from dispatcher.maintenance.pruner import Pruner
from dispatcher.model import Grant, State, chars_of
from dispatcher.queue.claim import ANSWER_CHARS
from dispatcher.queue.report import Verdict
from dispatcher.queue.retention import Due, prune
from dispatcher.queue.submit import Submission
from dispatcher.store.packing import PACK_OVER, pack, unpack

MEBI = '{"x": "%s"}' % ("y" * 2**20)


def several(mill: Mill, n: int, data: str, **fields: object) -> list[int]:
    return mill.queue.submit([Submission("noop", data, **fields)] * n)  # type: ignore[arg-type]


# claims


def test_a_claim_takes_what_an_answer_holds_and_leases_no_more(mill: Mill) -> None:
    ids = several(mill, 40, MEBI)
    taken = mill.claim(max_tasks=40).tasks
    if len(taken) > 17:  # PostgreSQL learns the size of tasks by the first of them
        assert len(taken) <= 2 * 17
        mill.queue.cancel(ids)
        return
    assert chars_of(taken) < ANSWER_CHARS + 2 * 2**20
    assert [task.task_id for task in taken] == ids[: len(taken)]
    assert mill.counts()[("default", "noop")]["in_progress"] == len(taken)
    rest = ids[len(taken) :]
    assert mill.store.write(lambda tx: [tx.last_end(i) for i in rest]) == [None] * len(rest), "no lease was given back"
    assert mill.claim("bob").tasks[0].task_id == rest[0]


def test_a_claim_of_several_queues_takes_what_an_answer_holds(mill: Mill) -> None:
    several(mill, 1, MEBI)
    mill.lease()  # its size is known
    for queue in ("a", "b", "c"):
        several(mill, 20, MEBI, queue=queue)
    taken = mill.claim("bob", max_tasks=60).tasks
    assert 16 <= len(taken) <= 19
    assert mill.counts()[("a", "noop")].get("in_progress", 0) <= 17


def test_take_stops_when_its_room_is_filled(mill: Mill) -> None:
    ids = several(mill, 5, '{"x": "0123456789"}')
    lane = mill.store.write(lambda tx: tx.lane("default", "noop"))

    def take(tx) -> list[int]:  # type: ignore[no-untyped-def]
        grant = Grant(tx.meet("i-x", "x").id, 1, 1000, False)
        return [task.task_id for task in tx.take([lane], 5, grant, 30)]

    mill.store.write(lambda tx: setattr(tx, "_largest", 19))  # PostgreSQL: as after large tasks
    assert mill.store.write(take) == ids[:2]
    assert mill.counts() == {("default", "noop"): {"pending": 3, "ready": 3, "in_progress": 2}}


# results


def test_a_large_result_is_stored_compressed_and_read_as_it_was(mill: Mill) -> None:
    text = json.dumps({"primes": list(range(20_000))})
    mill.one()
    lease = mill.lease()
    assert mill.succeed(lease, text) == Verdict.ACCEPTED
    assert mill.result(lease.task_id) == text
    assert mill.all_tasks()[0]["result"] == text
    (weight,) = mill.store.write(lambda tx: tx.weigh([lease.task_id])).values()
    assert weight < len(text) / 2
    assert mill.succeed(lease, text) == Verdict.DUPLICATE


def test_a_late_success_with_a_large_result(mill: Mill) -> None:
    text = '"%s"' % ("lång " * 10_000)
    mill.one()
    lease = mill.lease()
    mill.expire()
    assert mill.succeed(lease, text) == Verdict.ACCEPTED_LATE
    assert mill.result(lease.task_id) == text
    mill.queue.retry([lease.task_id])
    assert mill.result(lease.task_id) is None
    assert mill.succeed(mill.lease(), '"small"') == Verdict.ACCEPTED
    assert mill.result(lease.task_id) == '"small"'


@pytest.mark.parametrize("data", [b"", b"x" * PACK_OVER, os.urandom(200_000)])
def test_what_is_small_or_gains_nothing_stays_as_it_is(data: bytes) -> None:
    assert pack(data) is None
    assert unpack(data, None) == data


def test_what_gains_is_packed() -> None:
    data = b"result " * 100_000
    packed = pack(data)
    assert packed is not None
    assert len(packed) < len(data) / 10
    assert unpack(packed, len(data)) == data == zlib.decompress(packed)


def test_parts_are_stored_compressed_and_streamed_as_they_were(mill: Mill) -> None:
    parts = [b"row,of,a,table\n" * 60_000, os.urandom(100_000), b"tail"]
    mill.one()
    lease = mill.lease()
    digest = hashlib.sha256(b"".join(parts))
    upload = mill.queue.upload(name(lease), mill.store.store_id, "text/csv", iter(parts), digest)
    assert (upload.bytes, upload.sha256) == (len(b"".join(parts)), digest.hexdigest())
    assert mill.succeed(lease, upload=upload) == Verdict.ACCEPTED
    assert list(mill.queue.result_parts(lease.task_id)) == parts


# retention


def test_a_queue_may_keep_its_tasks_for_longer_or_shorter(mill: Mill) -> None:
    kept, gone, other = mill.one(queue="archive"), mill.one(queue="scratch"), mill.one()
    mill.queue.cancel([kept, gone, other])
    mill.queue.keep_for("archive", {State.CANCELLED: 90 * 86400})
    mill.queue.keep_for("scratch", {State.CANCELLED: 60, State.FAILED: 7})
    mill.clock.forward(2 * HOUR / SECOND)
    assert mill.prune(failed_ms=DAY) == 1
    assert {task["task_id"] for task in mill.all_tasks()} == {kept, other}
    mill.clock.forward(2 * DAY / SECOND)
    assert mill.prune(failed_ms=DAY) == 1
    assert [task["task_id"] for task in mill.all_tasks()] == [kept]


def test_what_holds_for_any_queue_and_what_is_taken_back(mill: Mill) -> None:
    mill.queue.keep_for("*", {State.COMPLETED: 60})
    mill.queue.keep_for("q", {State.COMPLETED: 5, State.FAILED: 0})
    mill.queue.keep_for("q", {State.COMPLETED: 6})
    assert mill.queue.retention() == {
        ("*", State.COMPLETED): 60, ("q", State.COMPLETED): 6, ("q", State.FAILED): 0,
    }  # fmt: skip
    mill.queue.keep_for("q", {State.COMPLETED: None, State.FAILED: None})
    assert mill.queue.retention() == {("*", State.COMPLETED): 60}
    mill.one(queue="q")
    mill.succeed(mill.lease())
    mill.clock.forward(59)
    assert mill.prune(completed_ms=30 * DAY) == 0
    mill.clock.forward(2)
    assert mill.prune(completed_ms=30 * DAY) == 1


def test_each_final_state_has_its_own_time(mill: Mill) -> None:
    ids = mill.submit(2)
    mill.queue.cancel(ids[:1])
    mill.fail(mill.lease())
    mill.clock.forward(10)
    pruner = Pruner(mill.queue, kept_for(0, DAY, 5 * SECOND))
    assert pruner.run_once(mill.clock.now()) == 1
    assert [task["task_id"] for task in mill.all_tasks()] == ids[1:]


def test_pruning_stops_at_what_lies_with_the_tasks(mill: Mill) -> None:
    mill.queue.cancel(several(mill, 20, MEBI))
    mill.clock.forward(1)
    lane = mill.store.write(lambda tx: tx.lane("default", "noop"))
    due = Due(State.CANCELLED, lane, mill.clock.now().wall)
    assert mill.store.write(lambda tx: prune(tx, due, 200)) == 7, "8 MiB"
    assert mill.prune() == 13
