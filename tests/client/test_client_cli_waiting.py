"""add_task.py --wait and --json: what is shown of tasks on their way."""

import io
import json
from collections.abc import Callable
from typing import Any

import pytest
from client_fakes import Dispatcher, FakeTime, ended

from client.display import Human

Run = Callable[..., int]
Output = pytest.CaptureFixture[str]


def test_json_names_each_task_on_a_line(run: Run, capsys: Output) -> None:
    dispatcher = Dispatcher(active=0)
    assert run(["--type", "noop", "--count", "2", "--json"], dispatcher) == 0
    captured = capsys.readouterr()
    assert [json.loads(line) for line in captured.out.splitlines()] == [
        {"task_id": 1, "task_type": "noop"},
        {"task_id": 2, "task_type": "noop"},
    ]
    assert not captured.err
    assert not dispatcher.bodies("/stats")


def test_json_with_wait_shows_whole_tasks(run: Run, capsys: Output) -> None:
    tasks = [ended(2, result={"n": 2**65}), ended(1, "failed", error="ValueError: no")]
    assert run(["2", "--wait", "--json"], Dispatcher(rounds=[tasks[:1], tasks[1:]])) == 1
    captured = capsys.readouterr()
    assert [json.loads(line) for line in captured.out.splitlines()] == tasks
    assert "added 2 task(s), 1 to 2" in captured.err


# --- waiting


def test_wait_shows_results_and_ends_well(run: Run, capsys: Output) -> None:
    dispatcher = Dispatcher(rounds=[[], [ended(1, result={"count": 4})]])
    dispatcher.running = [ended(1, "in_progress", progress={"done": 450, "total": 1000}, note="sieving")]
    assert run(["1", "10", "--wait"], dispatcher) == 0
    captured = capsys.readouterr()
    assert 'Task 1 completed: {"count":4}\n' in captured.out
    assert captured.err == "45%  0 of 1 ended; task 1: 450 of 1000, sieving\n"


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_wait_ends_with_1_when_a_task_did_not_complete(run: Run, capsys: Output, status: str) -> None:
    rounds = [[ended(1, result=None)], [ended(2, status, error="ValueError: no\nTraceback …")]]
    assert run(["2", "10", "--wait"], Dispatcher(rounds=rounds)) == 1
    told = capsys.readouterr().out
    assert f"Task 2 {status}: ValueError: no\n" in told
    assert "Traceback" not in told


def test_progress_is_asked_for_once_a_second(run: Run) -> None:
    rounds = [[ended(number, result=None)] for number in range(1, 6)]
    dispatcher = Dispatcher(rounds=rounds)
    assert run(["5", "10", "--wait"], dispatcher) == 0
    assert len([path for _, path, _ in dispatcher.calls if path.startswith("/tasks?")]) == 1


def test_who_waits_for_long_is_told_why(run: Run, capsys: Output) -> None:
    time = FakeTime()

    def round_of_a_second(*_: Any) -> dict[str, Any]:
        time.now += 1
        return {"tasks": [] if time.now < 1003 else [ended(1, result=None)], "open": 1}

    dispatcher = Dispatcher()
    dispatcher.answers["/wait-tasks"] = round_of_a_second
    dispatcher.answers["/task"] = lambda *_: ended(1, "pending", waiting_because="no live worker for task type noop")
    assert run(["--type", "noop", "--wait"], dispatcher, time) == 0
    assert capsys.readouterr().err == (
        "0%  0 of 1 ended\n0%  0 of 1 ended; task 1: no live worker for task type noop\n"
    )


def test_waiting_without_workers_says_so(run: Run, capsys: Output) -> None:
    run(["1", "--wait"], Dispatcher(active=0, rounds=[[ended(1, result=None)]]))
    assert "No worker is active" in capsys.readouterr().out


def test_a_long_result_is_cut_and_a_large_one_is_named(run: Run, capsys: Output) -> None:
    ref = {"bytes": 1048577, "sha256": "0", "media_type": "image/png"}
    rounds = [[ended(1, result="x" * 5000)], [ended(2, result_ref=ref)]]
    assert run(["2", "10", "--wait"], Dispatcher(rounds=rounds)) == 0
    told = capsys.readouterr().out
    assert "… (whole with --json)" in told
    assert len(max(told.splitlines(), key=len)) < 400
    assert "Task 2 completed: 1048577 bytes of image/png at http://fake:5000/task/2/result" in told


def test_a_handlers_text_does_not_steer_the_terminal(run: Run, capsys: Output) -> None:
    run(["1", "--wait"], Dispatcher(rounds=[[ended(1, "failed", error="\x1b[2Jgone\x07")]]))
    assert "Task 1 failed:  [2Jgone \n" in capsys.readouterr().out


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_bar_that_makes_way(capsys: Output) -> None:
    terminal = Terminal()
    show = Human("noop", 4, terminal)
    show.progress(4, 1, [ended(2, "in_progress", progress={"done": 1, "total": 2})])
    show.progress(4, 1, [ended(2, "in_progress", progress={"done": 1, "total": 2})])
    assert terminal.getvalue() == "\r\033[K[#########...............]  38%  1 of 4 ended; task 2: 1 of 2"
    show.ended("http://fake:5000", ended(2, result=1))
    assert terminal.getvalue().endswith("\r\033[K")
    assert capsys.readouterr().out == "Task 2 completed: 1\n"


@pytest.mark.parametrize("progress", [None, {}, {"done": 5, "total": None}, {"done": 5, "total": 0}, "half"])
def test_progress_without_a_total_counts_nothing(progress: Any) -> None:
    told = io.StringIO()
    Human("noop", 2, told).progress(2, 1, [ended(2, "in_progress", progress=progress)])
    assert told.getvalue() == "50%  1 of 2 ended; 1 running\n"
