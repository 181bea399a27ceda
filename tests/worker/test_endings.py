"""What a handler says of its attempt, and what its module says of its tasks."""

from pathlib import Path

import pytest
from process_helpers import HANDLERS, bench

from worker.children.handlers import probe

GOOD = "def execute(payload, context): pass\n"


def test_a_final_failure_has_its_reason_first_and_says_so(tmp_path: Path) -> None:
    with bench(tmp_path, concurrency=1) as b:
        body = b.run("says", {"retry": False})
        assert (body["status"], body["retry"]) == ("failed", False)
        assert body["error"].startswith("no such customer\nTraceback")
        assert 'says_task.py", line' in body["error"]
        again = b.run("says", {"retry": True})
        assert again["status"] == "failed"
        assert "retry" not in again


@pytest.mark.parametrize(("asked", "seconds"), [("90s", 90), ("1h30m", 5400), (2.5, 2.5), (0, 0)])
def test_a_handler_asks_to_be_run_later(tmp_path: Path, asked: object, seconds: float) -> None:
    with bench(tmp_path, concurrency=1) as b:
        body = b.run("says", {"snooze": asked})
        assert (body["status"], body["snooze_seconds"]) == ("snoozed", seconds)
        assert b.run("echo")["status"] == "completed", "the child goes on"


@pytest.mark.parametrize("asked", ["90", "soon", -1, 1e12, True])
def test_a_wrong_snooze_is_a_failure(tmp_path: Path, asked: object) -> None:
    with bench(tmp_path, concurrency=1) as b:
        body = b.run("says", {"snooze": asked})
        assert body["status"] == "failed"
        assert body["error"].startswith("ValueError: ")


@pytest.mark.parametrize("how", ["segfault", "exit", "kill", "close"])
def test_a_killed_child_is_told(tmp_path: Path, how: str) -> None:
    with bench(tmp_path, concurrency=1, kill_grace=0.2) as b:
        assert b.run("crash", {"how": how})["crashed"] is True
        assert "crashed" not in b.run("raise", {"how": "plain"})


def test_a_timeout_is_no_crash(tmp_path: Path) -> None:
    with bench(tmp_path, concurrency=1, kill_grace=0.2) as b:
        body = b.run("hang", {}, timeout_seconds=0.2)
        assert body["error"].startswith("timed out")
        assert "crashed" not in body


def test_a_module_says_what_its_tasks_want(tmp_path: Path) -> None:
    found = probe((HANDLERS,))
    wanted = {"max_attempts": 7, "timeout_seconds": 30, "backoff": {"first_seconds": 0.5, "max_seconds": 60}}
    assert found.defaults == {"says": wanted}


WRONG = {
    "attempts": ("max_attempts = 0", "max_attempts must be a number from 1 to 1000, not 0"),
    "part": ("max_attempts = 1.5", "max_attempts must be a whole number"),
    "timeout": ("timeout_seconds = '90s'", "timeout_seconds must be a number"),
    "kind": ("backoff = 5", "backoff must be a dict with some of first_seconds, factor, max_seconds, jitter"),
    "name": ("backoff = {'first': 5}", "backoff must be a dict with some of"),
    "value": ("backoff = {'jitter': 2}", "backoff.jitter must be a number from 0 to 1, not 2"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_it_says_wrong_is_told_at_the_start(tmp_path: Path, case: str) -> None:
    line, reason = WRONG[case]
    (tmp_path / "wrong_task.py").write_text(GOOD + line + "\n")
    found = probe((tmp_path,))
    assert found.types == {}
    assert reason in found.errors["wrong"]
