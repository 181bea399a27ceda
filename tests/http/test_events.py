"""Live events: what is told, to whom, what is missed, and that nobody pays while nobody listens."""

import json
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from http_helpers import Api, Process, wait_until

from client import Client, Event, Rejected
from dispatcher.errors import TooManyStreams
from dispatcher.queue import events as rules
from dispatcher.queue.telling import Teller


class Listener:
    """A stream of the hub itself, read as far as it has been told."""

    def __init__(self, api: Api, task_id: int | None = None, last_id: str | None = None) -> None:
        self.stream = api.queue.events.listen(task_id, last_id)
        self.last_id = ""
        self._text = iter(self.stream)
        self.head = self.read()

    def read(self) -> list[tuple[str, Any]]:
        """The next piece, as (kind, data)."""
        found = []
        for block in next(self._text).split("\n\n"):
            said = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
            if "data" in said:
                self.last_id = said["id"]
                found.append((said["event"], json.loads(said["data"])))
        return found

    def tasks(self) -> list[tuple[int, str]]:
        return [(data["task_id"], data["status"]) for kind, data in self.read() if kind == "task"]


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "KEEP_ALIVE_S", 0.0)


def tell(api: Api) -> int:
    api.clock.advance(1)  # type: ignore[union-attr]
    return Teller(api.queue).tell(api.queue.now().steady)


def test_who_listens_hears_of_submit_start_and_end(api: Api) -> None:
    listener = Listener(api)
    lease = api.lease(task_type="prime", queue="maths")
    tell(api)
    heard = listener.read()
    assert ("task", 1, "in_progress", "w-1", "prime", "maths") in [
        (kind, d.get("task_id"), d.get("status"), d.get("assigned_to"), d.get("task_type"), d.get("queue"))
        for kind, d in heard
    ]
    assert next(d for kind, d in heard if kind == "counts")["in_progress"] == 1
    api.report(api.outcome(lease["lease_id"]))
    tell(api)
    assert listener.tasks() == [(1, "completed")]


def test_a_failed_attempt_is_told_with_its_error(api: Api) -> None:
    lease = api.lease()
    listener = Listener(api, lease["task_id"])
    api.report(api.outcome(lease["lease_id"], "failed", error="disk on fire\nlong trace"))
    tell(api)
    ((kind, told),) = listener.read()
    assert (kind, told["status"], told["error"], told["attempts"]) == ("task", "pending", "disk on fire", 1)


def test_one_task_is_told_as_it_stands_then_as_it_changes_and_no_other(api: Api) -> None:
    lease, other = api.lease(), api.lease()
    listener = Listener(api, lease["task_id"])
    tell(api)
    assert listener.tasks() == [(lease["task_id"], "in_progress")]
    tell(api)
    api.beat(1, {"lease_id": lease["lease_id"], "progress": {"done": 3, "total": 7}, "note": "half"}, other["lease_id"])
    tell(api)
    ((_, told),) = listener.read()
    assert (told["progress"], told["note"]) == ({"done": 3, "total": 7}, "half")
    assert listener.read() == []  # a sign of life


def test_a_task_that_is_deleted_is_told(api: Api) -> None:
    task_id = api.submit()
    listener = Listener(api, task_id)
    assert api.ask("DELETE", f"/task/{task_id}?force=1").status == 200
    tell(api)
    assert listener.tasks() == [(task_id, "deleted")]


def test_who_comes_back_hears_what_he_missed(api: Api) -> None:
    listener = Listener(api)
    first = api.submit()
    tell(api)
    assert listener.tasks() == [(first, "pending")]
    listener.stream.close()
    second = api.submit()
    tell(api)
    again = Listener(api, last_id=listener.last_id)
    assert again.head == []
    assert again.tasks() == [(second, "pending")]


def test_who_comes_back_too_late_is_told_to_look_again(api: Api) -> None:
    listener = Listener(api)
    api.submit()
    tell(api)
    listener.tasks()
    listener.stream.close()
    for _ in range(2):
        tell(api)
        api.clock.advance(rules.LINGER_MS / 1000)  # type: ignore[union-attr]
    assert not api.queue.events.heard
    assert Listener(api, last_id=listener.last_id).head == [("reset", {})]


@pytest.mark.parametrize("last_id", ["00000000-1", "nonsense", "-", "x" * 1000, "\u0661-\u0661"])
def test_ids_of_another_run_and_nonsense_are_told_to_look_again(api: Api, last_id: str) -> None:
    assert Listener(api, last_id=last_id).head == [("reset", {})]


def test_a_slow_reader_is_bounded_and_told_to_look_again(api: Api) -> None:
    listener = Listener(api)
    for n in range(rules.KEPT + 5):
        api.queue.events.publish("counts", {"n": n})
    assert listener.read() == [("reset", {})]
    api.queue.events.publish("counts", {"n": 1})
    assert listener.read() == [("counts", {"n": 1})]


def test_while_nobody_listens_nothing_is_kept_and_nothing_read(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    lease = api.lease()
    api.report(api.outcome(lease["lease_id"]))
    assert not api.queue.events.heard
    assert api.queue.events.changed() == []
    monkeypatch.setattr(api.store, "read", lambda: pytest.fail("it read"))
    assert tell(api) == 0


def test_streams_are_bounded_and_their_places_come_back(make_api: Callable[..., Api]) -> None:
    api = make_api()
    api.queue.events.most_streams = 2
    api.submit()
    held = [Listener(api), Listener(api, 1)]
    for path in ("/events", "/task/1/events"):
        reply = api.get(path)
        assert (reply.status, reply.json["code"], reply.headers["Retry-After"]) == (503, "unavailable", "5")
    held.pop().stream.close()
    stream = api.queue.events.listen(None, None)  # never read, as when its client went at once
    with pytest.raises(TooManyStreams):
        api.queue.events.listen(None, None)
    del stream
    assert api.queue.events.streams() == 1


def test_one_address_gets_half_of_the_streams(make_api: Callable[..., Api]) -> None:
    api = make_api()
    api.queue.events.most_streams = 4

    def ask(address: str) -> tuple[int, str]:
        # a stream that is opened is never read to its end, so only refusals are asked for over HTTP
        reply = api.ask("GET", "/events", environ_base={"REMOTE_ADDR": address})
        return reply.status, reply.fault

    held = [api.queue.events.listen(None, None, "192.0.2.1") for _ in range(2)]
    status, fault = ask("192.0.2.1")
    assert (status, "for 192.0.2.1" in fault) == (503, True)
    held.append(api.queue.events.listen(None, None, "192.0.2.2"))
    held.pop(0).close()
    held.append(api.queue.events.listen(None, None, "192.0.2.1"))
    assert ask("192.0.2.1")[0] == 503
    for stream in held:
        stream.close()
    assert (api.queue.events.streams(), len(api.queue.events._sources)) == (0, 0)


def test_a_drain_ends_streams_and_lets_none_begin(api: Api) -> None:
    listener = Listener(api)
    api.queue.drain()
    with pytest.raises(StopIteration):
        next(listener._text) and next(listener._text)
    assert api.get("/events").status == 503


def test_unknown_tasks_and_arguments_are_refused(api: Api) -> None:
    assert api.get("/task/7/events").status == 404
    assert "since" in api.get("/events?since=1").fault
    assert api.queue.events.streams() == 0


# -- a real dispatcher --


def upto(events: Iterator[Event], task_id: int, status: str) -> Event:
    for event in events:
        if event.kind == "task" and (event.data["task_id"], event.data["status"]) == (task_id, status):
            return event
    raise AssertionError("the stream ended")


def test_the_client_follows_over_a_restart(run_warm: Callable[..., Process]) -> None:
    first = run_warm().ready()
    port = first.port
    with Client(first.url) as client:
        task_id = client.submit("noop")
        events = client.watch(task_id)
        upto(events, task_id, "pending")
        assert first.stop() == 0  # at once, though somebody listens
        run_warm(None, port=port).ready()
        client.cancel([task_id])
        upto(events, task_id, "cancelled")
        with pytest.raises(Rejected, match="not found"):
            next(client.events(99))


def test_a_listener_that_goes_frees_its_place(run_warm: Callable[..., Process]) -> None:
    process = run_warm(None, DISPATCHER_THREADS="8").ready()  # of which one may listen
    with Client(process.url) as client:
        task_id = client.submit("noop")
        events = client.events()
        assert next(events).kind in ("counts", "task")
        assert process.ask("GET", "/events").status == 503
        events.close()
        wait_until(lambda: client.submit("noop") and _status(process, task_id) == 200)


def _status(process: Process, task_id: int) -> int:
    with socket.create_connection(("127.0.0.1", process.port), timeout=5) as line:
        line.sendall(b"GET /task/%d/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" % task_id)
        return int(line.recv(64).split()[1])
