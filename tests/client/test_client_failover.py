"""Several dispatchers used like one: which one answers, who moves when, and what becomes of what waits."""

import io
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest
from scripted_server import HANG_UP, SILENCE, Answer, Server, reply, success

from client import failover
from client.connections import Connection
from client.errors import BadReply, NoneAnswered, Refused, Unreachable
from client.failover import Failover, connect
from client.transport import Transport


def unavailable(status: str = "503 SERVICE UNAVAILABLE", **headers: str) -> Answer:
    return reply({"code": "unavailable", "message": "stopping"}, status, **headers)


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


class Farm:
    """Three servers and a Failover over them that tries them in this order; `moves` are those that it told of."""

    def __init__(self) -> None:
        self.servers = [Server() for _ in range(3)]
        self.moves: list[tuple[str, str]] = []
        self.threads = ThreadPoolExecutor(8)
        self.line = connect(self.urls, on_move=lambda left, error, url: self.moves.append((left, url)))

    @property
    def urls(self) -> list[str]:
        return [server.url for server in self.servers]

    def script(self, *answers: list[Answer]) -> "Farm":
        for server, those in zip(self.servers, answers, strict=False):
            server.answer(*those)
        return self

    def call(self, path: str = "/stats", timeout: float = 10.0) -> Any:
        return self.line.call("POST", path, b"{}", timeout=timeout)

    def begin(self, path: str, timeout: float = 30.0) -> "Future[Any]":
        """A call in a thread of its own."""
        return self.threads.submit(self.call, path, timeout)

    def asked(self) -> list[int]:
        return [len(server.seen) for server in self.servers]

    def place(self) -> int:
        return self.urls.index(self.line.url)

    def end(self) -> None:
        self.line.close()
        self.threads.shutdown()
        for server in self.servers:
            server.close()


@pytest.fixture(autouse=True)
def unshuffled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failover.random, "sample", lambda lines, count: list(lines))  # type: ignore[attr-defined]


@pytest.fixture
def farm() -> Iterator[Farm]:
    made = Farm()
    yield made
    made.end()


@pytest.fixture
def dead() -> str:
    """The URL of a port where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return f"http://127.0.0.1:{taken.getsockname()[1]}"


# --- which one answers


def test_one_dispatcher_costs_nothing_extra() -> None:
    assert type(connect(["http://a:5000"])) is Transport
    assert type(connect(["http://a:5000", "http://a:5000/"])) is Transport


def test_all_calls_go_to_one_while_it_answers(farm: Farm) -> None:
    farm.script([success(number) for number in range(4)])
    assert [farm.call() for _ in range(4)] == [0, 1, 2, 3]
    assert {seen.connection for seen in farm.servers[0].seen} == {1}
    assert not farm.moves


def test_every_order_is_drawn_by_lot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    urls = ["http://a", "http://b", "http://c"]
    drawn = {tuple(line.url for line in Failover([Transport(url) for url in urls])._lines) for _ in range(200)}
    assert len(drawn) == 6, "so that the workers of one that goes are spread over the others"


def test_after_a_dead_one_the_second_is_used_and_stays(server: Server, dead: str) -> None:
    server.answer(success(1), success(2))
    line, began = connect([dead, server.url]), time.monotonic()
    assert [line.call("GET", "/stats") for _ in range(2)] == [1, 2]
    assert time.monotonic() - began < 1, "a refused connection is no delay"
    assert line.url == server.url
    assert {seen.connection for seen in server.seen} == {1}
    line.close()


def test_a_black_hole_costs_the_time_to_connect_once(server: Server) -> None:
    server.answer(*[success(number) for number in range(3)])
    with socket.socket() as hole, ExitStack() as fillers:
        hole.bind(("127.0.0.1", 0))
        hole.listen(0)
        for _ in range(3):  # with its queue full, the kernel drops whoever comes
            filler = fillers.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(hole.getsockname())
        url = f"http://127.0.0.1:{hole.getsockname()[1]}"
        line, began = Failover([Transport(url, connect_timeout=0.5), Transport(server.url)]), time.monotonic()
        assert line.call("GET", "/stats") == 0
        assert time.monotonic() - began >= 0.5
        began = time.monotonic()
        assert [line.call("GET", "/stats") for _ in range(2)] == [1, 2]
        assert time.monotonic() - began < 0.5
    line.close()


@pytest.mark.parametrize(
    "trouble",
    [
        HANG_UP,
        unavailable(),
        unavailable("502 BAD GATEWAY"),
        reply(b"<html>", "504 GATEWAY TIMEOUT"),
        reply(b"<html>a proxy's own page</html>"),
        reply(b"", "302 FOUND", Location="http://elsewhere"),
    ],
    ids=["hang up", "503", "502", "504", "not json", "redirect"],
)
def test_trouble_of_one_dispatcher_is_not_seen(farm: Farm, trouble: Answer) -> None:
    farm.script([success(1), trouble], [success(2), success(3)])
    assert [farm.call() for _ in range(3)] == [1, 2, 3]
    assert farm.moves == [(farm.urls[0], farm.urls[1])]
    assert farm.asked() == [3 if trouble is HANG_UP else 2, 2, 0]


@pytest.mark.parametrize("status", ["400 X", "401 X", "404 X", "409 X", "413 X", "429 X", "500 X", "507 X"])
def test_a_refusal_of_the_request_is_an_answer(farm: Farm, status: str) -> None:
    farm.script([unavailable(status), success(1)])
    with pytest.raises(Refused, match="stopping"):
        farm.call()
    assert farm.call() == 1
    assert not farm.moves


def test_who_refuses_the_request_after_a_silence_has_answered(farm: Farm) -> None:
    farm.script([HANG_UP], [reply({"code": "not_found", "message": "no task 7"}, "404 NOT FOUND"), success(1)])
    with pytest.raises(Refused, match="no task 7"):
        farm.call()
    assert farm.moves == [(farm.urls[0], farm.urls[1])]
    assert farm.call() == 1
    assert farm.asked() == [1, 2, 0]


def test_the_third_is_tried_too_and_later_the_first_again(farm: Farm) -> None:
    farm.script([HANG_UP, success(3), success(4)], [unavailable()], [success(1), success(2), unavailable()])
    assert [farm.call() for _ in range(4)] == [1, 2, 3, 4]
    assert farm.moves == [(farm.urls[0], farm.urls[2]), (farm.urls[2], farm.urls[0])]
    assert [seen.connection for seen in farm.servers[0].seen] == [1, 2, 2], "its connections are kept as before"


# --- when none answers


def test_all_silent_is_one_error_that_names_them(farm: Farm, dead: str) -> None:
    line = connect([dead, farm.urls[0]])
    farm.script([HANG_UP, reply(b"<html>")])
    with pytest.raises(Unreachable) as caught:
        line.call("GET", "/stats")
    assert str(caught.value) == (
        f"no answer from any dispatcher: {dead} (Connection refused), "
        f"{farm.urls[0]} (Remote end closed connection without response)"
    )
    assert line.url == dead, "nobody moves for nothing"
    with pytest.raises(NoneAnswered, match=f"{farm.urls[0]} .not JSON"):
        line.call("GET", "/stats")
    line.close()


def test_the_word_of_a_dispatcher_goes_before_silence(farm: Farm) -> None:
    farm.script([unavailable(Retry_After="4")], [unavailable(Retry_After="7")], [HANG_UP])
    with pytest.raises(Refused) as caught:
        farm.call()
    assert (caught.value.status, caught.value.code, caught.value.retry_after) == (503, "unavailable", 7.0)
    assert caught.value.message == f"{', '.join(farm.urls)}: stopping"
    assert farm.asked() == [1, 1, 1]
    assert not farm.moves


def test_strangers_everywhere_are_a_bad_reply(farm: Farm) -> None:
    farm.script(*[[reply(b"<html>")]] * 3)
    with pytest.raises(BadReply, match="not JSON"):
        farm.call()


# --- several threads


@pytest.mark.parametrize("trouble", [HANG_UP, unavailable()], ids=["hang up", "503"])
@pytest.mark.parametrize("repeat", range(10))
def test_threads_that_fail_at_once_land_on_the_same(farm: Farm, trouble: Answer, repeat: int) -> None:
    go = threading.Event()
    farm.script([Answer(trouble.text, trouble.then, go)] * 4, [success(1)] * 4, [success(2)] * 4)
    calls = [farm.begin("/stats") for _ in range(4)]
    wait_until(lambda: farm.asked() == [4, 0, 0])
    go.set()
    assert [call.result(5) for call in calls] == [1] * 4
    assert farm.asked() == [4, 4, 0]
    assert farm.moves == [(farm.urls[0], farm.urls[1])], "told once"


def test_who_fails_at_the_old_one_goes_to_the_current_one(farm: Farm) -> None:
    go = threading.Event()
    farm.script([Answer(unavailable().text, after=go), unavailable()], [unavailable()], [success("first"), success(2)])
    slow = farm.begin("/slow")
    wait_until(lambda: farm.asked() == [1, 0, 0])
    assert farm.call() == "first"
    go.set()
    assert slow.result(5) == 2
    assert farm.asked() == [2, 1, 2], "the second, known to be in trouble, was not asked again"


def test_a_late_answer_of_another_does_not_move_the_current_one(farm: Farm) -> None:
    go = threading.Event()
    farm.script(
        [unavailable(), unavailable()],
        [Answer(success("late").text, after=go), unavailable()],
        [success("current"), success("still")],
    )
    late = farm.begin("/late")
    wait_until(lambda: farm.asked() == [1, 1, 0])
    assert farm.call() == "current"
    go.set()
    assert late.result(5) == "late"
    assert farm.call() == "still"
    assert farm.moves == [(farm.urls[0], farm.urls[2])]


# --- what waits at a dispatcher that was left


def test_a_claim_that_waits_in_a_black_hole_follows_the_heartbeat(farm: Farm) -> None:
    farm.script([success(0), SILENCE, SILENCE], [success("beat"), success("claim")])
    farm.call()
    claim = farm.begin("/get-tasks", timeout=30)
    wait_until(lambda: farm.asked() == [2, 0, 0])
    assert farm.call("/heartbeat", timeout=0.1) == "beat"
    assert claim.result(4) == "claim"
    assert [seen.path for seen in farm.servers[1].seen] == ["/heartbeat", "/get-tasks"]
    assert farm.asked() == [3, 2, 0], "it was not sent to the black hole again"
    assert len(farm.moves) == 1


def test_a_claim_that_is_about_to_wait_there_follows_too(server: Server) -> None:
    server.answer(success(1), SILENCE)
    left = Transport(server.url)
    left.call("GET", "/stats")
    left._unanswered.over = True  # as `retire`, which looked before this call stood among those that wait
    with pytest.raises(Unreachable, match="given up for another dispatcher"):
        left.call("POST", "/get-tasks", b"{}", timeout=30)
    left.close()


def test_a_transport_that_was_left_is_silent_at_once(server: Server) -> None:
    server.answer(success(1), success(2))
    left = Transport(server.url)
    left.call("GET", "/stats")
    left.retire()
    with pytest.raises(Unreachable, match="given up for another dispatcher"):
        left.call("GET", "/stats")
    assert server.connections == 1
    successor = left.successor()
    assert successor.call("GET", "/stats") == 2
    successor.close()


def test_who_waits_at_a_dispatcher_that_refused_others_gets_its_answer(farm: Farm) -> None:
    go = threading.Event()
    farm.script([Answer(success("drained").text, after=go), unavailable()], [success("beat")])
    claim = farm.begin("/get-tasks")
    wait_until(lambda: farm.asked() == [1, 0, 0])
    assert farm.call("/heartbeat") == "beat"
    go.set()
    assert claim.result(5) == "drained"
    assert farm.place() == 1


def test_renew_gives_up_what_waits_elsewhere_and_repeats_what_waits_here(farm: Farm) -> None:
    farm.script([unavailable(), SILENCE, success("here")], [SILENCE])
    elsewhere = farm.begin("/get-tasks")
    wait_until(lambda: farm.asked() == [1, 1, 0])
    here = farm.begin("/heartbeat")
    wait_until(lambda: farm.asked() == [2, 1, 0])
    farm.script([], [], [success("third")])
    farm.line.renew()
    assert here.result(4) == "here"
    assert elsewhere.result(4) == "third"


def test_renew_repeats_what_is_just_being_sent(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its dispatcher has it, and the caller has not begun to wait."""
    farm.script([SILENCE, success("here")])
    sent, renewed, send = threading.Event(), threading.Event(), Connection._send

    def send_slowly(*args: Any) -> bool:
        answer = send(*args)
        sent.set()
        renewed.wait(5)
        return answer

    monkeypatch.setattr(Connection, "_send", send_slowly)
    here = farm.begin("/heartbeat")
    assert sent.wait(5)
    wait_until(lambda: farm.asked() == [1, 0, 0])  # or the server would meet the repeat first
    farm.line.renew()
    renewed.set()
    assert here.result(4) == "here"


def test_renew_gives_up_what_waits_at_one_that_refused_others(farm: Farm) -> None:
    farm.script([SILENCE, unavailable()], [success("beat"), success("second")])
    claim = farm.begin("/get-tasks")
    wait_until(lambda: farm.asked() == [1, 0, 0])
    assert farm.call("/heartbeat") == "beat"
    farm.line.renew()
    assert claim.result(4) == "second"


# --- bodies


def test_a_file_is_sent_to_the_next_from_its_start(farm: Farm) -> None:
    farm.script([HANG_UP], [success(1)])
    spool = io.BytesIO(b"x" * 200_000)
    spool.seek(17)
    assert farm.line.call("PUT", "/result/1-5f", spool, content_type="image/png") == 1
    assert len(farm.servers[1].seen[0].body) == 200_000
    assert farm.servers[1].seen[0].headers["content-type"] == "image/png"


def test_a_stream_moves_before_its_first_byte_only(farm: Farm) -> None:
    broken = Answer(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\nab", "close")
    farm.script([unavailable()], [broken], [reply(b"whole")])
    with pytest.raises(Unreachable), farm.line.stream("/task/1/result", timeout=5) as stream:
        list(stream)
    assert farm.moves == [(farm.urls[0], farm.urls[1])]
    with farm.line.stream("/task/1/result", timeout=5) as stream:
        assert b"".join(stream) == b"whole"
    assert farm.place() == 2
