"""`taskmill schedules`, `schedule`, `unschedule` against a running dispatcher."""

import json
from collections.abc import Callable

import pytest
from cli_kit import Commands

from client.testing import LocalCluster

NIGHTLY = ("schedule", "nightly", "--cron", "0 3 * * MON-FRI", "--zone", "Europe/Berlin")
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
    assert ", paused" in run("schedule", "nightly", "--pause").out
    assert "task 1 submitted" in run("schedule", "nightly", "--run").out
    assert "every 1h30m\n" in run("schedule", "nightly", "--resume", "--every", "1h30m").out
    (header, row, *rest) = run("schedules").out.splitlines()
    assert (header.split("\t")[0], row.split("\t")[:3], rest) == ("name", ["nightly", "every 1h30m", "noop"], [])
    assert [one["name"] for one in json.loads(run("schedules", "--json").out)] == ["nightly"]
    assert run("unschedule", "nightly").out == "nightly: deleted\n"
    assert "not found" in run("unschedule", "nightly").fault
    assert cluster.client.task(1)["task_data"] == {"n": 2**65}


def test_dry_run_stores_nothing(cluster: LocalCluster, run: Commands) -> None:
    assert run(*NIGHTLY, *TASK, "--dry-run").out.count("\n  next ") == 5
    assert "no schedule nightly" in run("schedule", "nightly").fault


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (("--cron", "99 3 * * *", "--type", "noop"), "cron: bad minute"),
        (("--cron", "0 3 * * *"), "--type is missing"),
        (("--data", "{}"), "--type is missing"),
        (("--every", "15", "--type", "noop"), "every: '15' is not a duration"),
        (("--type", "noop"), "cron: say either cron or every"),
        (("--every", "1h", "--type", "noop", "--data", "[1]"), "--data: must be a JSON object"),
        (("--every", "1h", "--type", "noop", "--data", "{"), "--data: not valid JSON"),
        (("--every", "1h", "--type", "noop", "--timeout", "5"), "'5' is not a duration"),
        (("--run", "--pause"), "say nothing else"),
    ],
)
def test_bad_words_are_refused_in_one_line(
    cluster: LocalCluster, run: Commands, words: tuple[str, ...], fault: str
) -> None:
    said = run("schedule", "x", *words)
    assert said.code == 2
    assert fault in said.fault


def test_without_a_dispatcher_it_says_so(run: Commands) -> None:
    assert "start_dispatcher.sh" in run("schedules").fault
