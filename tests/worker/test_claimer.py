"""Mechanisms 4 and 5 from the worker's side: numbers repeated until answered, one waiting claim, orders obeyed."""

import socket
from pathlib import Path
from typing import Any

import pytest
from doubles import RUN, STORE, Bench, claimed, leased, refusal, silence

from client.transport import BadReply
from worker.claimer import Claimer
from worker.claims import FLOOD
from worker.leases import Claim
from worker.model import Task


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = Bench(tmp_path / "instance")
    made.reporter.step()  # opens the outbox
    made.runner.capacity = 4
    return made


@pytest.fixture
def claimer(bench: Bench) -> Claimer:
    confirmed: list[int] = []
    bench.confirmed, bench.renewed, bench.soon = confirmed, [], []  # type: ignore[attr-defined]

    def confirm() -> None:
        confirmed.append(len(bench.dispatcher.calls))

    return Claimer(
        bench.settings,
        bench.leases,
        bench.claims,
        confirm,
        bench.soon.append,  # type: ignore[attr-defined]
        bench.renewed.append,  # type: ignore[attr-defined]
        clock=bench.clock,
    )


def numbers(bench: Bench) -> list[tuple[int, int]]:
    return [(body["request_id"], body["max_tasks"]) for body in bench.dispatcher.bodies("/get-tasks")]


def test_a_claim_says_what_the_protocol_asks_for(bench: Bench, claimer: Claimer) -> None:
    bench.claims.host = lambda: {"hostname": "h"}
    claimer.step()
    [body] = bench.dispatcher.bodies("/get-tasks")
    wait = body.pop("wait_seconds")
    assert 20 <= wait <= 25
    assert body == {
        "worker_id": "lab-1",
        "instance_id": "instance-1",
        "request_id": 1,
        "protocol": 1,
        "task_types": ["noop"],
        "queues": None,
        "labels": [f"host:{socket.gethostname()}"],
        "max_tasks": 4,
        "orders": RUN,
        "brief": True,
        "host": {"hostname": "h"},
    }


def test_tasks_as_arrays_are_the_same_tasks(bench: Bench, claimer: Claimer) -> None:
    """But for a task with a checkpoint or options, which is an object beside them."""
    terms = {name: leased(1)[name] for name in ("task_type", "queue", "attempt", "max_attempts", "timeout_seconds")}
    long = {**terms, "attempt": 2, "timeout_seconds": 7.5}
    special = {**leased(4), "checkpoint": {"at": 1}, "options": {"memory_mb": 64}}
    arrays = [[1, "1-1", 0, {}], [2, "2-1", 1, {"n": 2}], special, [3, "3-1", 0, {"n": 3}]]
    odd = [[5], [6, "6-1", 2, {}], ["7", "7-1", 0, {}], [8, "8\n1", 0, {}], [9, "9-1", 0, {}, "more"], [10, 10, 0, {}]]
    bench.dispatcher.answers["/get-tasks"] = lambda body: claimed([*arrays, *odd], terms=[terms, long])
    claimer.step()
    one, two, three = (Task(STORE, n, "noop", {"n": n} if n > 1 else {}, f"{n}-1", 1) for n in (1, 2, 3))
    two = two._replace(attempt=2, timeout_seconds=7.5)
    four = Task(STORE, 4, "noop", {}, "4-1", 1, checkpoint={"at": 1}, memory_mb=64)
    assert bench.runner.offered == [one, two, four, three], "what cannot be read is left to expire"


def test_claimed_tasks_are_held_and_offered(bench: Bench, claimer: Claimer) -> None:
    bench.dispatcher.answers["/get-tasks"] = lambda body: claimed([leased(1), leased(2)])
    assert claimer.step() == 0
    assert [one.lease_id for one in bench.runner.offered] == ["1-1", "2-1"]
    assert [entry["lease_id"] for entry in bench.leases.listings()[0].entries] == ["1-1", "2-1"]
    assert bench.confirmed == []  # type: ignore[attr-defined]


@pytest.mark.parametrize("trouble", ["silence", "nonsense", "503"])
def test_a_number_is_repeated_until_it_is_answered(bench: Bench, claimer: Claimer, trouble: str) -> None:
    def nonsense(body: Any) -> Any:
        raise BadReply("http://proxy", "a web page")

    answers = {"silence": silence, "nonsense": nonsense, "503": refusal(503, retry_after=7)}
    bench.dispatcher.answers["/get-tasks"] = answers[trouble]
    pauses = [claimer.step() for _ in range(8)]
    assert {number for number, _ in numbers(bench)} == {1}
    assert all((7.5 if trouble == "503" else 0.5) <= pause <= 37 for pause in pauses)
    assert bench.leases.listings()[0].claims_in_flight == [1]
    bench.dispatcher.answers["/get-tasks"] = lambda body: claimed([leased(1)])
    claimer.step()
    claimer.step()
    assert [number for number, _ in numbers(bench)][-2:] == [1, 2]


def test_an_answer_that_is_no_claim_is_no_answer(bench: Bench, claimer: Claimer) -> None:
    bench.dispatcher.answers["/get-tasks"] = lambda body: {"tasks": "none"}
    claimer.step()
    claimer.step()
    assert [number for number, _ in numbers(bench)] == [1, 1]


@pytest.mark.parametrize("provisional", [False, True])
def test_one_lease_that_cannot_be_read_does_not_hide_the_others(
    bench: Bench, claimer: Claimer, provisional: bool
) -> None:
    odd = [{"task_id": 5}, {**leased(6), "lease_id": "6\n7"}, leased(7), "a word"]
    bench.runner.short = True
    bench.dispatcher.answers["/get-tasks"] = lambda body: claimed(odd, provisional=provisional)
    claimer.step()
    assert [one.lease_id for one in bench.runner.offered] == ["7-1"]


def test_provisional_leases_are_confirmed_before_the_next_claim(bench: Bench, claimer: Claimer) -> None:
    bench.dispatcher.answers["/get-tasks"] = lambda body: claimed([leased(1)], provisional=True)
    claimer.step()
    assert bench.confirmed == [1]  # type: ignore[attr-defined]


def test_short_tasks_that_are_reported_within_a_moment_are_confirmed_by_that(bench: Bench, claimer: Claimer) -> None:
    bench.runner.short = True
    bench.runner.offer = lambda tasks: bench.leases.settled([one.lease_id for one in tasks])  # type: ignore[method-assign]
    bench.dispatcher.answers["/get-tasks"] = lambda body: claimed([leased(1), leased(2)], provisional=True)
    claimer.step()
    assert bench.confirmed == bench.soon == []  # type: ignore[attr-defined]


def test_short_tasks_of_which_one_is_not_short_after_all_are_confirmed_soon(bench: Bench, claimer: Claimer) -> None:
    bench.runner.short = True
    bench.runner.offer = lambda tasks: bench.leases.settled(["1-1"])  # type: ignore[method-assign]
    bench.dispatcher.answers["/get-tasks"] = lambda body: claimed([leased(1), leased(2)], provisional=True)
    claimer.step()
    assert (bench.confirmed, bench.soon) == ([], [["1-1", "2-1"]])  # type: ignore[attr-defined]


def test_a_flood_of_short_tasks_is_confirmed_soon_and_holds_nothing_up(bench: Bench, claimer: Claimer) -> None:
    bench.runner.short, bench.runner.capacity = True, 500
    bench.dispatcher.answers["/get-tasks"] = lambda body: claimed([leased(n + 1) for n in range(500)], provisional=True)
    bench.leases.wait_settled = lambda lease_ids, seconds: pytest.fail("it waited")  # type: ignore[method-assign]
    claimer.step()
    assert (bench.confirmed, [len(one) for one in bench.soon]) == ([], [500])  # type: ignore[attr-defined]


def test_a_well_supplied_worker_leaves_its_claims_to_the_reports(bench: Bench, claimer: Claimer) -> None:
    bench.dispatcher.answers["/get-tasks"] = lambda body: claimed([leased(n + 1) for n in range(body["max_tasks"])])
    claimer.step()
    bench.runner.capacity, bench.runner.busy = 1, True
    assert claimer.step() > 0
    bench.runner.busy = False
    claimer.step()
    assert numbers(bench) == [(1, 4), (2, 1)]


def test_an_older_reply_between_two_orders_to_stop_now_makes_no_second_order_of_them(bench: Bench) -> None:
    """Twice told to stop now, a worker leaves without its last words."""
    stops: list[bool] = []
    bench.claims.on_stop = stops.append
    now = {"state": "stop", "now": True, "cancel": []}
    for said in (now, {"state": "stop", "cancel": []}, now, now):
        bench.claims.obey(said)
    assert stops.count(True) == 1


def test_a_second_lease_of_a_held_task_is_released(bench: Bench, claimer: Claimer) -> None:
    bench.hold(1)
    bench.dispatcher.answers["/get-tasks"] = lambda body: claimed([leased(1, "1-b")])
    claimer.step()
    bench.steps()
    assert bench.runner.offered == []
    [report] = bench.dispatcher.bodies("/submit-results")
    assert [(one["lease_id"], one["status"]) for one in report["outcomes"]] == [("1-b", "released")]


def test_a_full_worker_waits_for_orders_alone(bench: Bench, claimer: Claimer) -> None:
    bench.runner.capacity = 0
    claimer.step()
    assert numbers(bench) == [(1, 0)]


def test_a_worker_that_cannot_persist_claims_nothing(bench: Bench, claimer: Claimer) -> None:
    bench.claims.blocked = True
    claimer.step()
    assert numbers(bench) == [(1, 0)]


def test_quiet_claims_nothing_more_but_goes_on_asking(bench: Bench, claimer: Claimer) -> None:
    bench.dispatcher.answers["/get-tasks"] = lambda body: claimed([], orders={"state": "quiet", "cancel": []})
    claimer.step()
    claimer.step()
    assert numbers(bench) == [(1, 4), (2, 0)]
    assert bench.dispatcher.bodies("/get-tasks")[1]["orders"] == {"state": "quiet", "cancel": []}


@pytest.mark.parametrize(("now", "given_back"), [({}, ["waiting"]), ({"now": True}, ["waiting", "running"])])
def test_sleep_gives_back_even_what_comes_late(
    bench: Bench, claimer: Claimer, now: dict[str, bool], given_back: list[str]
) -> None:
    orders = {"state": "sleep", **now, "cancel": []}
    bench.claims.obey(orders)
    assert bench.runner.released == given_back
    bench.dispatcher.answers["/get-tasks"] = lambda body: claimed([leased(1)], orders=orders)
    claimer.step()
    assert numbers(bench) == [(1, 0)]
    assert [task.task_id for task in bench.runner.offered] == [1]
    assert bench.runner.released == given_back * 2
    bench.claims.obey({"state": "run", "cancel": []})
    bench.dispatcher.answers["/get-tasks"] = lambda body: claimed([leased(2)])
    claimer.step()
    assert bench.runner.released == given_back * 2


def test_an_order_to_cancel_stops_each_task_once(bench: Bench, claimer: Claimer) -> None:
    orders = {"state": "run", "cancel": ["1-1"]}
    bench.dispatcher.answers["/get-tasks"] = lambda body: claimed([], orders=orders)
    claimer.step()
    claimer.step()
    assert bench.runner.stopped == [(["1-1"], "cancelled")]
    assert bench.dispatcher.bodies("/get-tasks")[1]["orders"] == orders


def test_the_order_to_stop_ends_the_worker(bench: Bench, claimer: Claimer) -> None:
    stops: list[bool] = []
    bench.claims.on_stop = stops.append
    bench.dispatcher.answers["/get-tasks"] = lambda body: claimed([], orders={"state": "stop", "cancel": []})
    claimer.step()
    claimer.step()
    assert stops == [False], "once, however often it is said"
    now = {"state": "stop", "now": True, "cancel": []}
    bench.dispatcher.answers["/get-tasks"] = lambda body: claimed([], orders=now)
    claimer.step()
    claimer.step()
    assert stops == [False, True]
    assert bench.dispatcher.bodies("/get-tasks")[3]["orders"] == now


def test_a_dead_instance_starts_anew(bench: Bench, claimer: Claimer) -> None:
    bench.dispatcher.answers["/get-tasks"] = refusal(409, "instance_dead")
    assert claimer.step() == 0
    assert bench.renewed == ["instance-1"]  # type: ignore[attr-defined]


def test_a_dispatcher_that_does_not_wait_is_not_hammered(bench: Bench, claimer: Claimer) -> None:
    pauses = [claimer.step() for _ in range(12)]
    assert 0.05 <= pauses[0] <= 0.1
    assert all(2.5 <= pause <= 5 for pause in pauses[7:]), "it is polled at WORKER_POLL_INTERVAL"
    bench.dispatcher.answers["/get-tasks"] = lambda body: claimed([leased(1)])
    assert claimer.step() == 0


def test_a_replaced_wait_is_no_reason_to_pause(bench: Bench, claimer: Claimer) -> None:
    def replaced(body: Any) -> Any:
        bench.leases.open_claim(4, 0)  # the reporter's
        return claimed([])

    bench.dispatcher.answers["/get-tasks"] = replaced
    assert claimer.step() == 0


def test_the_claimer_holds_off_while_reports_bring_all_the_work(bench: Bench, claimer: Claimer) -> None:
    full = bench.leases.open_claim(2, 0)
    bench.claims.take(full, claimed([]))
    woken: list[int] = []
    bench.claims.on_dry = lambda: woken.append(1)
    bench.claims.fed(full, 2)
    assert claimer.step() == pytest.approx(0.2)
    assert numbers(bench) == []
    bench.clock.now += 0.21
    claimer.step()
    assert len(numbers(bench)) == 1
    bench.claims.fed(full, 2)
    assert not woken
    bench.claims.fed(full, 1)  # the queue has run dry: somebody must wait for work
    assert woken
    claimer.step()
    assert len(numbers(bench)) == 2


def test_the_claimer_looks_now_and_then_while_the_children_have_enough(bench: Bench, claimer: Claimer) -> None:
    bench.runner.busy = True
    assert claimer.step() == pytest.approx(0.25)
    assert numbers(bench) == []
    bench.runner.busy = False
    claimer.step()
    assert len(numbers(bench)) == 1


def test_the_same_room_is_not_asked_for_twice(bench: Bench, claimer: Claimer) -> None:
    """While a report with a claim is under way, the claimer waits for what it brings."""
    beside = bench.claims.claim_beside(reporting=True)
    assert beside
    assert claimer.step() == pytest.approx(0.02)
    assert numbers(bench) == []
    bench.claims.take(beside, claimed([leased(1), leased(2), leased(3)]))
    claimer.step()
    assert numbers(bench) == [(2, 1)]


def test_a_flood_is_claimed_beside_the_reports(bench: Bench, claimer: Claimer) -> None:
    """Each side in a round trip of its own, and no claim for a few: that would be one for each task that ended."""
    bench.runner.capacity = FLOOD
    bench.dispatcher.answers["/get-tasks"] = lambda body: claimed([leased(n + 1) for n in range(FLOOD)])
    claimer.step()
    bench.runner.capacity = FLOOD - 1
    assert claimer.step() == pytest.approx(0.003)
    assert bench.claims.claim_beside(reporting=True) is None
    bench.runner.capacity = FLOOD + 1
    bench.dispatcher.answers["/get-tasks"] = lambda body: claimed([leased(9999)])
    claimer.step()
    assert bench.claims.claim_beside(reporting=True) is None  # that was the last of it: the next claim may wait
    claimer.step()
    asked = [(body["max_tasks"], body["wait_seconds"] > 0) for body in bench.dispatcher.bodies("/get-tasks")]
    assert asked == [(FLOOD, True), (FLOOD + 1, False), (FLOOD, True)]


def test_a_claim_of_a_flood_that_takes_long_is_not_asked_a_second_time(bench: Bench, claimer: Claimer) -> None:
    bench.runner.capacity = FLOOD
    bench.dispatcher.answers["/get-tasks"] = lambda body: claimed([leased(n + 1) for n in range(FLOOD)])
    claimer.step()
    bench.runner.capacity = FLOOD
    beside: list[Claim | None] = []

    def slowly(body: Any) -> Any:
        bench.clock.now += 0.21
        beside.append(bench.claims.claim_beside(reporting=True))
        return claimed([])

    bench.dispatcher.answers["/get-tasks"] = slowly
    claimer.step()
    assert beside == [None]
    claimer.step()
    assert [body["wait_seconds"] > 0 for body in bench.dispatcher.bodies("/get-tasks")] == [True, False, True]


def test_a_claim_rides_on_a_report_when_the_last_answer_was_full(bench: Bench, claimer: Claimer) -> None:
    bench.dispatcher.answers["/get-tasks"] = lambda body: claimed([leased(n) for n in range(body["max_tasks"])])
    claimer.step()
    bench.runner.capacity = 1
    assert bench.claims.claim_beside(reporting=True) is not None


def test_no_claim_rides_on_a_report_when_the_last_answer_left_room(bench: Bench, claimer: Claimer) -> None:
    bench.dispatcher.answers["/get-tasks"] = lambda body: claimed([leased(1)])
    claimer.step()
    assert bench.claims.claim_beside(reporting=True) is None


def test_a_flood_waits_for_the_reports_when_they_fall_behind(bench: Bench, claimer: Claimer) -> None:
    many = range(10_000, 14_000)
    bench.hold(*many)
    bench.runner.capacity = FLOOD
    bench.dispatcher.answers["/get-tasks"] = lambda body: claimed([leased(n + 1) for n in range(FLOOD)])
    claimer.step()
    bench.runner.capacity = 1000
    bench.leases.finished([f"{one}-1" for one in many])
    assert claimer.step() == pytest.approx(0.003)
    bench.leases.settled([f"{many[0]}-1"])
    claimer.step()
    assert [body["max_tasks"] for body in bench.dispatcher.bodies("/get-tasks")] == [FLOOD, 1000]


@pytest.mark.parametrize("end", ["longer tasks", "quiet"])
def test_a_flood_ends_where_there_is_no_room_for_hundreds(bench: Bench, claimer: Claimer, end: str) -> None:
    bench.runner.capacity = FLOOD
    bench.dispatcher.answers["/get-tasks"] = lambda body: claimed([leased(n + 1) for n in range(FLOOD)])
    claimer.step()
    if end == "quiet":
        bench.claims.obey({"state": "quiet", "cancel": []})
    else:
        bench.runner.capacity = 2
        assert claimer.step() == pytest.approx(0.003)
        bench.clock.now += 0.21
    claimer.step()
    [_, body] = bench.dispatcher.bodies("/get-tasks")
    assert (body["max_tasks"], body["wait_seconds"] > 0) == (0 if end == "quiet" else 2, True)


def test_reports_of_an_outage_carry_one_number(bench: Bench) -> None:
    """Else each of them would leave a claim to be repeated, all at the moment when the dispatcher is back."""
    bench.dispatcher.answers["/submit-results"] = silence
    bench.hold(1)
    bench.deliver_outcomes(1)
    for _ in range(5):
        bench.reporter.retry_now()
        bench.reporter.step()
    carried = [body["claim"]["request_id"] for body in bench.dispatcher.bodies("/submit-results")]
    assert len(carried) == 6
    assert len(set(carried)) == 1


def test_a_waiting_claim_that_was_outgrown_is_replaced(bench: Bench, claimer: Claimer) -> None:
    """No report is under way: the reporter notices, and claims by itself under a higher number."""

    def while_waiting(body: Any) -> Any:
        if body["wait_seconds"]:
            bench.reporter.step()
            bench.runner.capacity = 9
            bench.reporter.step()
            bench.reporter.step()
        return claimed([])

    bench.dispatcher.answers["/get-tasks"] = while_waiting
    claimer.step()
    assert numbers(bench) == [(1, 4), (2, 9)]


def test_a_wait_at_a_dispatcher_that_was_left_is_brought_along(bench: Bench, claimer: Claimer) -> None:
    """Once, and not at once: one that stops answers by itself."""
    sent_anew: list[int] = []

    def while_waiting(body: Any) -> Any:
        for url, seconds in (("http://a:5000", 5.0), ("http://b:5000", 0.0), ("http://b:5000", 0.9),
                             ("http://b:5000", 0.1), ("http://b:5000", 5.0)):  # fmt: skip
            bench.dispatcher.url = url
            bench.clock.now += seconds
            bench.reporter.step()
            sent_anew.append(sum(method == "RENEW" for method, _, _ in bench.dispatcher.calls))
        return claimed([])

    bench.dispatcher.answers["/get-tasks"] = while_waiting
    claimer.step()
    assert sent_anew == [0, 0, 0, 1, 1]


def test_a_report_carries_a_claim_only_when_the_waiting_one_asks_for_less(bench: Bench, claimer: Claimer) -> None:
    bench.hold(1, 2)

    def while_waiting(body: Any) -> Any:
        bench.deliver_outcomes(1)
        bench.runner.capacity = 5
        bench.deliver_outcomes(2)
        return claimed([])

    bench.dispatcher.answers["/get-tasks"] = while_waiting
    claimer.step()
    first, second = bench.dispatcher.bodies("/submit-results")
    assert "claim" not in first
    assert second["claim"]["max_tasks"] == 5
    assert second["claim"]["wait_seconds"] == 0


def test_a_drain_ends_the_wait_and_what_it_brings_is_released(bench: Bench, claimer: Claimer) -> None:
    def while_waiting(body: Any) -> Any:
        if not body["wait_seconds"]:
            return claimed([])
        bench.claims.draining = True
        bench.reporter.step()
        return claimed([leased(1)])

    bench.dispatcher.answers["/get-tasks"] = while_waiting
    claimer.step()
    bench.steps()
    assert numbers(bench) == [(1, 4), (2, 0)]
    assert bench.runner.offered == []
    assert [one["status"] for body in bench.dispatcher.bodies("/submit-results") for one in body["outcomes"]] == [
        "released"
    ]


def test_a_draining_worker_waits_for_orders_until_its_end(bench: Bench, claimer: Claimer) -> None:
    def while_waiting(body: Any) -> Any:
        if body["wait_seconds"]:
            bench.steps()
            assert len(bench.dispatcher.bodies("/get-tasks")) == 1, "what waits for orders alone waits on"
            bench.claims.closing = True
            bench.steps()
        return claimed([])

    bench.claims.draining = True
    bench.dispatcher.answers["/get-tasks"] = while_waiting
    claimer.step()
    assert numbers(bench) == [(1, 0), (2, 0)]
    assert bench.dispatcher.bodies("/get-tasks")[0]["wait_seconds"] > 0
    assert claimer.step() > 0
    assert len(numbers(bench)) == 2
    assert bench.leases.idle()


def test_a_repeat_asks_for_what_there_is_room_for_now(bench: Bench, claimer: Claimer) -> None:
    bench.dispatcher.answers["/get-tasks"] = silence
    claimer.step()
    bench.claims.draining = True
    claimer.step()
    assert numbers(bench) == [(1, 4), (1, 0)]
    assert bench.dispatcher.bodies("/get-tasks")[1]["wait_seconds"] == 0
