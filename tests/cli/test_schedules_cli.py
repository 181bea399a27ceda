"""`taskmill schedules` and `taskmill schedule NAME …` against a running dispatcher."""

import json
from collections.abc import Callable

import pytest
from cli_kit import Commands

from client.testing import LocalCluster

NIGHTLY = ("schedule", "nightly", "set", "--cron", "0 3 * * MON-FRI", "--zone", "Europe/Berlin")
TASK = ("--type", "noop", "--data", '{"n": 36893488147419103232}', "--queue", "q", "--tag", "a", "--tag", "b")


@pytest.fixture
def cluster(farm: Callable[..., LocalCluster], run: Commands) -> LocalCluster:
    started = farm()
    run.use(started)
    return started


def test_a_schedule_from_its_making_to_its_end(cluster: LocalCluster, run: Commands) -> None:
    assert "make one" in run("schedules").out
    said = run(*NIGHTLY, *TASK)
    assert said.code == 0, said
    assert said.out.startswith("nightly: At 03:00 on Monday through Friday (Europe/Berlin)\n")
    assert said.out.count("\n  next ") == 5
    assert run(*NIGHTLY, *TASK).code == 0  # said again
    shown = json.loads(run("schedule", "nightly", "--json").out)
    assert shown["task"] == {
        "task_type": "noop", "task_data": {"n": 2**65}, "queue": "q", "tags": ["a", "b"],
    }  # fmt: skip
    assert ", paused" in run("schedule", "nightly", "pause").out
    assert "task 1 submitted" in run("schedule", "nightly", "run").out
    assert "every 1h30m, paused\n" in run("schedule", "nightly", "set", "--every", "1h30m").out
    assert "every 1h30m\n" in run("schedule", "nightly", "resume").out
    (header, row, *rest) = run("schedules").out.splitlines()
    assert (header.split()[0], row.split()[:4], rest) == ("name", ["nightly", "every", "1h30m", "noop"], [])
    assert [one["name"] for one in json.loads(run("schedules", "--json").out)] == ["nightly"]
    assert run("schedule", "nightly", "delete").out == "nightly: deleted\n"
    assert "not found" in run("schedule", "nightly", "delete").fault
    assert cluster.client.task(1)["task_data"] == {"n": 2**65}


def test_what_is_not_named_stays(cluster: LocalCluster, run: Commands) -> None:
    run(*NIGHTLY, *TASK)
    more = ("--require", "gpu", "--key", "user:42", "--unique-key", "u", "--unique-for", "1h", "--memory", "512M")
    said = run("schedule", "nightly", "set", *more, "--backoff", "10s", "--wait-limit", "1h", "--json")
    task = json.loads(said.out)["task"]
    assert task.pop("backoff")["first_seconds"] == 10
    assert task == {
        "task_type": "noop", "task_data": {"n": 2**65}, "queue": "q", "tags": ["a", "b"], "requires": ["gpu"],
        "key": "user:42", "unique_key": "u", "unique_for": 3600, "memory_mb": 512, "wait_seconds": 3600,
    }  # fmt: skip
    assert "memory_mb" not in json.loads(run("schedule", "nightly", "set", "--memory", "none", "--json").out)["task"]
    assert run("schedule", "nightly", "set", "--every", "5m", "--priority", "3", "--dry-run").out.startswith(
        "nightly: every 5m"
    )
    known = cluster.client.schedule("nightly")
    assert (known["cron"], "priority" in known["task"]) == ("0 3 * * MON-FRI", False)
    assert json.loads(run("schedule", "nightly", "run", "--json").out) == {"task_id": 1, "created": True}
    assert run("schedule", "nightly", "run").out == "nightly: task 1 exists already with its unique_key\n"


def test_dry_run_stores_nothing(cluster: LocalCluster, run: Commands) -> None:
    assert run(*NIGHTLY, *TASK, "--dry-run").out.count("\n  next ") == 5
    assert "schedule nightly not found" in run("schedule", "nightly").fault


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (("--cron", "99 3 * * *", "--type", "noop"), "cron: bad minute"),
        (("--cron", "0 3 * * *"), "--type is missing"),
        (("--data", "{}"), "--type is missing"),
        ((), "say what to set"),
        (("--every", "1h", "--type", "noop", "--unique-for", "1h"), "--unique-for: says how long"),
        (("--every", "1h", "--type", "noop", "--tag", "a b"), "--tag: task.tags"),
        (("--every", "15", "--type", "noop"), "every: '15' is not a duration"),
        (("--type", "noop"), "cron: say either cron or every"),
        (("--every", "1h", "--type", "noop", "--data", "[1]"), "--data: must be a JSON object"),
        (("--every", "1h", "--type", "noop", "--data", "{"), "--data: not valid JSON"),
        (("--every", "1h", "--type", "noop", "--timeout", "5"), "'5' is not a duration"),
    ],
)
def test_bad_words_are_refused_in_one_line(
    cluster: LocalCluster, run: Commands, words: tuple[str, ...], fault: str
) -> None:
    said = run("schedule", "x", "set", *words)
    assert said.code == 2
    assert fault in said.fault


def test_without_a_dispatcher_it_says_so(run: Commands) -> None:
    assert "start_dispatcher.sh" in run("schedules").fault
