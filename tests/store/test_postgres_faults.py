"""PostgreSQL hurt on its way: injected conflicts, lines cut around COMMIT, features that others lack (I1, I5)."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from postgres_proxy import UNSUPPORTED, Plan, Proxy, proxied
from postgres_server import Schemas
from store_kit import PATIENCE, FakeClock, Later, Mill, held_up, name, until

from dispatcher.errors import CannotOpen, DispatcherError, StorageFull, Unavailable
from dispatcher.model import End, State
from dispatcher.queue.report import Outcome, Verdict
from dispatcher.queue.submit import Submission
from dispatcher.store.postgres import PostgresStore

TASKS, PORTION, DISPATCHERS = 400, 4, 2
BACK_WITHIN_S = 10.0


class Client:
    """Repeats what was not answered, as clients and workers do; remembers what it was told."""

    def __init__(self, mills: list[Mill]) -> None:
        self._mills = mills
        self.acknowledged: dict[str, int] = {}
        self.verdicts: list[Verdict] = []
        self.executed: Counter[int] = Counter()
        self.repeats = 0

    def insist(self, call: Callable[[Mill], Any], first: int) -> Any:
        """The answer of the first dispatcher that gives one."""
        for turn in range(first, first + 10_000):
            try:
                return call(self._mills[turn % len(self._mills)])
            except DispatcherError:
                self.repeats += 1
        raise AssertionError("no dispatcher ever answered")

    def submit(self, who: int) -> None:
        for n in range(TASKS // PORTION // DISPATCHERS):
            tasks = [Submission("noop", "{}", key=f"{who}-{n}-{i}", digest=b"d") for i in range(PORTION)]
            ids = self.insist(lambda mill, tasks=tasks: mill.queue.submit(tasks), who)
            self.acknowledged.update(zip([task.key or "" for task in tasks], ids, strict=True))

    def work(self, who: int, done: threading.Event) -> None:
        number = 0
        while not done.is_set():
            number += 1
            asked = self._mills[0].asking(f"w{who}", 7, number)
            leases = self.insist(lambda mill, asked=asked: mill.queue.claim(asked), who).tasks
            self.executed.update(lease.task_id for lease in leases)
            outcomes = [Outcome(name(lease), End.COMPLETED, "1") for lease in leases]
            if outcomes:
                self.verdicts += self.insist(lambda mill, o=outcomes, who=who: mill.report(*o, worker=f"w{who}"), who)


@pytest.fixture
def hurt(schemas: Schemas) -> Iterator[Callable[[Plan], list[Mill]]]:
    """Dispatchers whose way to one database is hurt."""
    with ExitStack() as stack:

        def make(plan: Plan, n: int = DISPATCHERS) -> list[Mill]:
            proxy = stack.enter_context(proxied(schemas.new(), plan))
            mills = [opened(proxy) for _ in range(n)]
            for mill in mills:
                stack.callback(mill.store.close)
            return mills

        yield make
    schemas.give_back()


def opened(proxy: Proxy) -> Mill:
    """What hurts the others may hurt the start: whoever starts a dispatcher starts it again."""
    for _ in range(100):
        with suppress(CannotOpen, DispatcherError), ExitStack() as stack:
            store = PostgresStore(proxy.url, notify=False)
            stack.callback(store.close)
            mill = Mill(store, FakeClock())
            stack.pop_all()
            return mill
    raise AssertionError("it never opened")


def run_load(mills: list[Mill]) -> Client:
    """Submitters and workers at each dispatcher until everything is completed."""
    client, done = Client(mills), threading.Event()
    submitters = [threading.Thread(target=client.submit, args=(who,)) for who in range(DISPATCHERS)]
    workers = [threading.Thread(target=client.work, args=(who, done)) for who in range(DISPATCHERS)]
    for thread in submitters + workers:
        thread.start()
    for thread in submitters:
        thread.join()
    try:
        until(lambda: client.insist(lambda mill: mill.counts(), 0)["default", "noop"].get("completed") == TASKS)
    finally:
        done.set()
        for thread in workers:
            thread.join(PATIENCE)
    return client


def nothing_lost_nothing_twice(mills: list[Mill], client: Client) -> None:
    tasks = {task["task_id"]: task for task in client.insist(lambda mill: mill.all_tasks(), 0)}
    assert len(client.acknowledged) == TASKS
    assert set(client.acknowledged.values()) == set(tasks), "lost, or stored twice"
    assert {task["status"] for task in tasks.values()} == {State.COMPLETED}
    assert max(client.executed.values()) == 1, "a claim that was repeated got other tasks"
    assert client.executed.keys() == tasks.keys()
    counts = client.insist(lambda mill: mill.counts(), 0)["default", "noop"]
    assert counts == {State.COMPLETED: TASKS}, "the counts are what a recount gives"
    twice = [v for v in client.verdicts if v not in (Verdict.ACCEPTED, Verdict.DUPLICATE)]
    assert not twice


def test_a_tenth_of_all_statements_conflicting_loses_nothing(hurt: Callable[[Plan], list[Mill]]) -> None:
    plan = Plan("conflicts", failures=0.1)
    mills = hurt(plan)
    client = run_load(mills)
    plan.failures = 0
    nothing_lost_nothing_twice(mills, client)
    assert plan.done["failure"] > 100, plan.done


def test_lines_cut_around_commit_lose_nothing_and_store_nothing_twice(hurt: Callable[[Plan], list[Mill]]) -> None:
    plan = Plan("cuts", cuts=0.1)
    mills = hurt(plan)
    client = run_load(mills)
    plan.cuts = 0
    nothing_lost_nothing_twice(mills, client)
    assert all(plan.done[f"cut {where}"] for where in ("before", "after", "unheard")), plan.done


@pytest.mark.long
def test_a_thousand_cuts_around_commit(hurt: Callable[[Plan], list[Mill]]) -> None:
    total: Counter[str] = Counter()
    for seed in range(100):
        plan = Plan(f"cuts-{seed}", cuts=0.2)
        mills = hurt(plan)
        client = run_load(mills)
        plan.cuts = 0
        nothing_lost_nothing_twice(mills, client)
        total += plan.done
        if sum(total.values()) >= 1_000:
            return
    raise AssertionError(f"only {total}")


def test_submit_without_a_key_is_stored_once_although_its_commit_was_cut(hurt: Callable[..., list[Mill]]) -> None:
    """Nobody can repeat it by name, so the store itself finds out what became of it."""
    plan = Plan("unnamed")
    (mill,) = hurt(plan, 1)
    acknowledged = []
    for _ in range(60):
        plan.cuts = 1.0
        cuts = sum(plan.done.values())
        later = Later(lambda: mill.submit(1))
        until(lambda cuts=cuts: sum(plan.done.values()) > cuts)
        plan.cuts = 0.0
        acknowledged += later.answer()
    assert sorted(task["task_id"] for task in mill.all_tasks()) == sorted(acknowledged)
    assert all(plan.done[f"cut {where}"] for where in ("before", "after", "unheard")), plan.done


def test_nothing_relies_on_what_other_engines_lack(schemas: Schemas, tmp_path: Path) -> None:
    """No LISTEN, NOTIFY or advisory locks, no DDL inside a transaction: with hints on, they are just not there."""
    plan = Plan(forbid=UNSUPPORTED)
    with proxied(schemas.new(), plan) as proxy:
        stores = [PostgresStore(proxy.url, notify=True) for _ in range(DISPATCHERS)]
        mills = [Mill(store, FakeClock()) for store in stores]
        stores[0].on_news(lambda: None)
        until(lambda: plan.done["forbidden"])
        only_hints = plan.done["forbidden"]
        client = run_load(mills)
        nothing_lost_nothing_twice(mills, client)
        assert plan.done["forbidden"] <= only_hints + 20, "something but hints was refused"
        for store in stores:
            store.close()
    schemas.give_back()


def test_database_that_is_away_is_503_and_comes_back_by_itself(schemas: Schemas) -> None:
    with proxied(schemas.new(), Plan()) as proxy:
        store = PostgresStore(proxy.url, notify=True)
        mill = Mill(store, FakeClock())
        store.on_news(lambda: None)
        task_id = mill.one()
        with proxy.gone():
            for call in (lambda: mill.one(), lambda: mill.queue.task(task_id)):
                with pytest.raises(Unavailable) as refused:
                    call()
                assert refused.value.retry_after
                assert "password" not in str(refused.value)
            assert not store.healthy
        began = time.monotonic()
        client = Client([mill])
        client.insist(lambda mill: mill.one(), 0)
        client.insist(lambda mill: mill.queue.task(task_id), 0)
        assert time.monotonic() - began < BACK_WITHIN_S
        assert store.healthy
        store.close()
    schemas.give_back()


@pytest.mark.parametrize("call", [lambda mill: mill.one(), lambda mill: mill.claim()])
def test_full_disk_is_507_and_nothing_is_half_done(
    hurt: Callable[..., list[Mill]], call: Callable[[Mill], Any]
) -> None:
    plan = Plan()
    (mill,) = hurt(plan, 1)
    task_id = mill.one()
    plan.states, plan.failures = ("53100",), 1.0
    with pytest.raises(StorageFull):
        call(mill)
    plan.failures = 0.0
    assert mill.state(task_id) == State.PENDING
    assert [lease.task_id for lease in mill.claim(max_tasks=5).tasks] == [task_id]


@pytest.mark.parametrize("state", ["55P03", "57014"])
def test_lock_or_time_that_ran_out_harms_one_operation_only(hurt: Callable[..., list[Mill]], state: str) -> None:
    plan = Plan()
    (mill,) = hurt(plan, 1)
    mill.one()
    plan.states = (state,)
    with held_up(mill.store):
        queued = mill.store._writer._calls.qsize  # type: ignore[attr-defined]
        bad = Later(lambda: mill.store.write(lambda tx: _refused_statement(tx, plan)))
        until(queued)
        good = Later(lambda: mill.one(task_type="sleep"))
        until(lambda: queued() == 2)
    with pytest.raises(Unavailable):
        bad.answer()
    assert mill.state(good.answer()) == State.PENDING


def _refused_statement(tx: Any, plan: Plan) -> None:
    plan.failures = 1.0
    try:
        tx.changed("UPDATE meta SET value = value", ())
    finally:
        plan.failures = 0.0
