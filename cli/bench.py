"""`taskmill bench`: how fast the running farm is, by tasks that do nothing."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import click

from cli import show
from cli.errors import DONE, FAILED, INTERRUPTED, REFUSED, Failed
from cli.farm import milliseconds
from cli.options import asking, dispatcher, duration, examples
from client import bodies
from client.client import Client
from client.errors import Rejected
from dispatcher.queue.workers import able, capacity

TYPE = "noop"
SINGLES = 100  # tasks that are sent one at a time
LONGEST_TASKS = 1_000_000
CLEAN_S, CLEAN_LOOK_S = 10.0, 0.05  # for tasks that still run when it is interrupted


class Figures(NamedTuple):
    """What was measured: rates in tasks a second, times in seconds."""

    tasks: int
    queue: str
    slots: int
    submitted_per_second: float
    ended_per_second: float
    one_p50_seconds: float
    one_p99_seconds: float
    failed: int


@click.command(epilog=examples("bench", "bench --tasks 20000 --json"))
@click.option("--tasks", "number", type=click.IntRange(1, LONGEST_TASKS), default=2000, help="How many (2000).")
@click.option("--queue", default="bench", metavar="NAME", help="In this queue, where nothing waits (bench).")
@click.option("--timeout", metavar="5m", default="5m", help="Give up after that (5m).")
@asking
def command(number: int, queue: str, timeout: str, as_json: bool, url: str | None) -> int:
    """Measure the running farm with tasks that do nothing.

    They are submitted in batches into a queue of their own and waited for; then some are sent one at a time. In the
    end, and when it is interrupted, they are deleted. The farm's other work goes on, and counts against the figures.
    """
    seconds = duration("--timeout", timeout) or 0.0
    with dispatcher(url) as client:
        slots = _slots(client, queue)
        found = _measured(client, number, queue, slots, seconds)
    if as_json:
        show.as_json(found._asdict())
    else:
        show.record(_told(found))
    return FAILED if found.failed else DONE


def _slots(client: Client, queue: str) -> int:
    """How many of the tasks run at a time. Raises Failed when they would not run, or among others."""
    try:
        there = client.queue(queue)
    except Rejected as error:
        if error.code != "not_found":
            raise
        there = {"pending": 0, "running": 0, "paused": False}
    if there["paused"]:
        raise Failed(f"queue {queue} is paused: name another with --queue", REFUSED)
    if there["pending"] or there["running"]:
        raise Failed(f"queue {queue} holds tasks that have not ended: name another with --queue", REFUSED)
    slots = capacity(queue, [TYPE], able(client.stats()["workers"]))
    if not slots:
        raise Failed(f"no live worker takes {TYPE} tasks of queue {queue}: nothing would run", REFUSED)
    return slots


def _measured(client: Client, number: int, queue: str, slots: int, seconds: float) -> Figures:
    with _cleaned(client) as ids:
        began = time.perf_counter()
        batch = _submit(client, number, queue, ids)
        submitted = time.perf_counter() - began
        failed = sum(task["status"] != "completed" for task in client.results(batch, timeout=seconds))
        ended = time.perf_counter() - began
        times = sorted(_one(client, queue, ids, seconds) for _ in range(min(number, SINGLES)))
    ones = (times[len(times) // 2], times[min(int(0.99 * len(times)), len(times) - 1)])
    return Figures(number, queue, slots, round(number / submitted, 1), round(number / ended, 1), *ones, failed)


def _submit(client: Client, number: int, queue: str, ids: set[int]) -> list[int]:
    """A batch under one name: what was stored when it is interrupted is named again, to be deleted."""
    name = bodies.new_key()

    def send() -> list[int]:
        sent: list[int] = []
        tasks = ({"task_type": TYPE, "task_data": {}, "queue": queue} for _ in range(number))
        for batch in client.submit_batches(tasks, idempotency_key=name):
            ids.update(batch)
            sent += batch
        return sent

    try:
        return send()
    except BaseException:
        send()
        raise


def _one(client: Client, queue: str, ids: set[int], seconds: float) -> float:
    began = time.perf_counter()
    [task_id] = _submit(client, 1, queue, ids)
    client.wait(task_id, seconds)
    return time.perf_counter() - began


@contextmanager
def _cleaned(client: Client) -> Iterator[set[int]]:
    """The ids of tasks, which are deleted in the end, whatever happened."""
    ids: set[int] = set()
    try:
        yield ids
    except KeyboardInterrupt:
        raise Failed("interrupted; its tasks were deleted", INTERRUPTED) from None
    finally:
        _delete(client, ids)


def _delete(client: Client, ids: set[int]) -> None:
    left, until = sorted(ids), time.monotonic() + CLEAN_S
    while left := [one for one, verdict in client.delete(left).items() if verdict == "not_final"]:
        if time.monotonic() > until:
            raise Failed(f"{len(left):,} of its tasks still run, and were left; cancelled they will not run again")
        client.cancel(left)
        time.sleep(CLEAN_LOOK_S)


def _told(found: Figures) -> Iterator[tuple[str, object]]:
    yield "tasks", f"{found.tasks:,} of {TYPE} in queue {found.queue}, {found.slots:,} at a time"
    yield "submitted", f"{found.submitted_per_second:,.0f}/s"
    yield "end to end", f"{found.ended_per_second:,.0f}/s"
    yield "one at a time", f"p50 {milliseconds(found.one_p50_seconds)}, p99 {milliseconds(found.one_p99_seconds)}"
    if found.failed:
        yield "failed", show.Coloured(f"{found.failed:,}", "bold red")
