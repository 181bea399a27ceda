"""Webhooks from a submit to the receiver: the field, the courier, and a real dispatcher."""

import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hook_receiver import Receiver
from http_helpers import Api, Process, wait_until

from dispatcher.errors import Unavailable
from dispatcher.maintenance.courier import Courier
from dispatcher.outward import NotDelivered, Poster, networks

SECRET = "sixteen characters"
HOOK = "https://hooks.example/x"


class Hands:
    """Takes deliveries; raises what it is told to."""

    def __init__(self, *failures: Exception) -> None:
        self.tried: list[tuple[str, str]] = []
        self._failures = list(failures)

    def post(self, url: str, delivery: str, body: str) -> None:
        self.tried.append((url, delivery))
        if self._failures:
            raise self._failures.pop(0)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


@pytest.fixture
def telling(make_api: Callable[..., Api]) -> Api:
    return make_api(webhook_secret=SECRET)


def finish(api: Api, **fields: Any) -> int:
    lease = api.lease(**fields)
    api.report(api.outcome(lease["lease_id"]))
    return int(lease["task_id"])


def test_off_the_field_is_refused(api: Api) -> None:
    for path, body, field in (
        ("/submit-task", {"task_type": "noop", "webhook": HOOK}, "webhook"),
        (
            "/submit-tasks",
            {"tasks": [{"task_type": "a"}, {"task_type": "b", "webhook": HOOK}]},
            "tasks[1].webhook",
        ),
        ("/schedules", {"name": "n", "every": "1h", "task": {"task_type": "noop", "webhook": HOOK}}, "task.webhook"),
    ):
        reply = api.post(path, body)
        assert (reply.status, reply.json["code"]) == (400, "unsupported")
        assert reply.fault.startswith(f"{field}: ")
    task = api.submit()
    assert api.ask("PATCH", f"/task/{task}", {"webhook": HOOK}).json["code"] == "unsupported"


@pytest.mark.parametrize("url", ["", "hooks.example", "ftp://x/", "http://a:b@x/", "http://x/\r\nHost: y", 7, ["x"]])
def test_a_bad_url_is_refused_by_name(telling: Api, url: object) -> None:
    reply = telling.post("/submit-task", {"task_type": "noop", "webhook": url})
    assert reply.status == 400
    assert reply.fault.startswith("webhook: ")


def test_it_is_kept_shown_and_changed(telling: Api) -> None:
    task = telling.submit(webhook=HOOK)
    assert telling.task(task)["webhook"] == HOOK
    assert telling.ask("PATCH", f"/task/{task}", {"webhook": f"{HOOK}/2"}).status == 200
    assert telling.task(task)["webhook"] == f"{HOOK}/2"
    telling.ask("PATCH", f"/task/{task}", {"webhook": None})
    assert "webhook" not in telling.task(task)


def test_the_courier_delivers_and_tries_again(telling: Api) -> None:
    hands = Hands(NotDelivered("the answer was 503"), RuntimeError("unexpected"))
    courier = Courier(telling.queue, hands.post)
    task = finish(telling, webhook=HOOK)
    finish(telling)  # which tells nobody
    for tries in (1, 2, 3):
        assert courier.run_once(telling.store.now()) == 1
        wait_until(lambda: sum(telling.queue.hooks.read().values()) == tries)  # noqa: B023
        assert courier.run_once(telling.store.now()) == 0
        telling.advance(60)
    assert len(set(hands.tried)) == 1, "always under the same id"
    assert hands.tried[0][0] == HOOK
    assert telling.queue.hooks.read() == {("put_off",): 2, ("delivered",): 1}
    assert telling.task(task)["status"] == "completed"
    courier.close()


def test_no_more_at_a_time_than_there_are_hands(telling: Api) -> None:
    hands, free = Hands(), threading.Event()

    def post(url: str, delivery: str, body: str) -> None:
        if not free.wait(10):
            raise NotDelivered("the test took too long")
        hands.post(url, delivery, body)

    courier = Courier(telling.queue, post, slots=2)
    for _ in range(3):
        finish(telling, webhook=HOOK)
    assert courier.run_once(telling.store.now()) == 2
    assert courier.run_once(telling.store.now()) == 0
    free.set()
    wait_until(lambda: courier.run_once(telling.store.now()) == 1)
    wait_until(lambda: telling.queue.hooks.read() == {("delivered",): 3})
    courier.close()


def test_a_slow_host_keeps_others_waiting_for_nothing(telling: Api) -> None:
    """Also with more of its deliveries due, and due before, than there are hands."""
    held, quick = threading.Event(), Hands()

    def post(url: str, delivery: str, body: str) -> None:
        if "slow" in url and not held.wait(10):
            raise NotDelivered("the test took too long")
        quick.post(url, delivery, body)

    courier = Courier(telling.queue, post, slots=6, each=2)
    for n in range(10):
        finish(telling, webhook=f"https://slow.example:{n + 1}/{n}")
    telling.advance(0.001)
    for n in range(5):
        finish(telling, webhook=f"https://quick.example/{n}")
    courier.run_once(telling.store.now())
    wait_until(lambda: courier.run_once(telling.store.now()) == 0 and len(quick.tried) == 5)
    assert {url for url, _ in quick.tried} == {f"https://quick.example/{n}" for n in range(5)}
    telling.advance(10)
    finish(telling, webhook="https://quick.example/later")
    wait_until(lambda: courier.run_once(telling.store.now()) == 0 and len(quick.tried) == 6)
    held.set()
    wait_until(lambda: courier.run_once(telling.store.now()) == 0 and telling.queue.open_hooks() == 0)
    assert len(quick.tried) == len(set(quick.tried)) == 16
    courier.close()


def test_a_try_whose_verdict_could_not_be_stored_is_made_again(telling: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    hands = Hands()
    courier = Courier(telling.queue, hands.post)
    finish(telling, webhook=HOOK)

    def away(*_: object) -> str:
        raise Unavailable("the store is away")

    with monkeypatch.context() as patched:
        patched.setattr(telling.queue, "settle_hook", away)
        courier.run_once(telling.store.now())
        wait_until(lambda: not courier._busy)
    telling.advance(61)
    assert courier.run_once(telling.store.now()) == 1
    wait_until(lambda: telling.queue.open_hooks() == 0)
    assert len(hands.tried) == 2
    assert len(set(hands.tried)) == 1
    courier.close()


def test_a_draining_dispatcher_begins_none(telling: Api) -> None:
    courier = Courier(telling.queue, Hands().post)
    finish(telling, webhook=HOOK)
    telling.queue.drain()
    assert courier.run_once(telling.store.now()) == 0
    courier.close()


def test_what_arrives(telling: Api, receiver: Receiver) -> None:
    poster = Poster(SECRET.encode(), networks(["127.0.0.1"]))
    courier = Courier(telling.queue, poster.post)
    task = finish(telling, webhook=receiver.url())
    courier.run_once(telling.store.now())
    wait_until(lambda: telling.queue.open_hooks() == 0)
    (came,) = receiver.received
    assert came.is_signed_with(SECRET.encode())
    assert came.told["type"] == "task.completed"
    assert came.told["data"]["task_id"] == task
    assert came.told["timestamp"].startswith(telling.task(task)["finished_at"][:19])
    courier.close()


def test_a_dispatcher_tells_by_itself(run_warm: Callable[..., Process], receiver: Receiver) -> None:
    given = {"WEBHOOK_SECRET": SECRET, "WEBHOOK_ALLOW": "127.0.0.1", "WEBHOOK_URL": receiver.url("/all")}
    process = run_warm(LOG_FORMAT="json", **given).ready()
    task = process.post("/submit-task", {"task_type": "noop"}).data["task_id"]
    process.post(f"/task/{task}/cancel", {})
    wait_until(lambda: receiver.received)
    (came,) = receiver.received
    assert (came.path, came.told["type"]) == ("/all", "task.cancelled")
    assert came.is_signed_with(SECRET.encode())
    assert process.stop() == 0
    assert all(json.loads(line)["level"] in ("INFO", "WARNING") for line in process.lines)
    assert not any(SECRET in line for line in process.lines)
