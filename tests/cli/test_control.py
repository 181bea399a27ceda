"""`taskmill tasks|show|cancel|retry|delete|edit|retention` against a running dispatcher."""

import json
from collections.abc import Iterator

import pytest
from cli_kit import Commands

from client.testing import LocalCluster


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    unset = {"DISPATCHER_TOKEN": "", "DISPATCHER_HOST": "", "DATABASE_URL": ""}
    with LocalCluster(0, settings=unset, parent=tmp_path_factory.mktemp("control")) as made:
        yield made


@pytest.fixture
def taskmill(run: Commands, cluster: LocalCluster) -> Iterator[Commands]:
    """The command line beside an empty queue."""
    run.use(cluster)
    yield run
    for action in ("cancel", "delete"):
        cluster.client.bulk(action, newer_than_seconds=86400)  # type: ignore[arg-type]


def test_tasks_are_listed(taskmill: Commands, cluster: LocalCluster) -> None:
    ids = [cluster.client.submit("noop", queue=queue, tags=[queue]) for queue in ("a", "b", "a")]
    said = taskmill("tasks", "--queue", "a")
    assert said.code == 0, said
    assert said.out.split("\n")[0].split()[:4] == ["id", "type", "queue", "status"]
    assert [line.split()[0] for line in said.out.splitlines()[1:]] == [str(ids[2]), str(ids[0])]
    lines = taskmill("tasks", "--tag", "b", "--json").out.splitlines()
    assert [json.loads(line)["task_id"] for line in lines] == [ids[1]]
    assert len(taskmill("tasks", "--limit", "2", "--json").out.splitlines()) == 2
    assert taskmill("tasks", "--status", "done").code == 2


def test_one_task_is_shown(taskmill: Commands, cluster: LocalCluster) -> None:
    task_id = cluster.client.submit("noop", {"text": "\x1b[31mred"})
    said = taskmill("show", str(task_id))
    assert said.code == 0, said
    assert "pending" in said.out
    assert "\x1b" not in said.out
    assert json.loads(taskmill("show", str(task_id), "--json").out)["task_id"] == task_id
    assert taskmill("show", "999999").fault


def test_by_ids(taskmill: Commands, cluster: LocalCluster) -> None:
    task_id = cluster.client.submit("noop")
    assert taskmill("cancel", str(task_id)).out == "1 cancelled\n"
    assert taskmill("retry", str(task_id)).out == "1 run again\n"
    said = taskmill("delete", str(task_id), "999999")
    assert said.code == 1
    assert f"not changed: {task_id}, 999999" in said.err
    taskmill("cancel", str(task_id))
    assert taskmill("delete", str(task_id)).out == "1 deleted\n"


def test_by_filter(taskmill: Commands, cluster: LocalCluster) -> None:
    for _ in range(3):
        cluster.client.submit("noop", queue="q")
    assert taskmill("cancel", "--queue", "q", "--dry-run").out.startswith("3 tasks match (")
    assert "--yes" in taskmill("cancel", "--queue", "q").fault, "nobody is there to be asked"
    assert taskmill("cancel", "--queue", "q", "--yes").out == "3 cancelled\n"
    assert taskmill("retry", "--queue", "q", "--status", "failed", "--yes").out == "no task matches\n"
    assert taskmill("delete", "--queue", "q", "--older-than", "1h", "--yes").out == "no task matches\n"
    assert taskmill("delete", "--queue", "q", "--newer-than", "1h", "--yes").out == "3 deleted\n"


@pytest.mark.parametrize("words", [
    ("cancel",), ("cancel", "1", "--queue", "q"), ("retry", "0"), ("delete", "--older-than", "soon"),
    ("cancel", "1", "--dry-run"), ("edit", "1"), ("edit", "1", "--data", "{"), ("retention", "--failed", "7"),
])  # fmt: skip
def test_bad_command_lines(taskmill: Commands, words: tuple[str, ...]) -> None:
    said = taskmill(*words)
    assert said.code == 2, said
    assert said.fault


def test_edit(taskmill: Commands, cluster: LocalCluster) -> None:
    task_id = cluster.client.submit("noop", timeout_seconds=5)
    words = ["--priority", "5", "--delay", "1h", "--data", '{"n": 2}', "--tag", "a", "--tag", "b", "--timeout", "none"]
    assert taskmill("edit", str(task_id), *words).out == f"task {task_id} was changed (generation 2)\n"
    task = cluster.client.task(task_id)
    assert (task["priority"], task["task_data"], task["tags"]) == (5, {"n": 2}, ["a", "b"])
    assert task["timeout_seconds"] is None
    cluster.client.cancel([task_id])
    assert "only a task that waits" in taskmill("edit", str(task_id), "--priority", "1").fault


def test_retention(taskmill: Commands) -> None:
    lines = taskmill("retention").out.splitlines()
    assert [line.split() for line in lines] == [
        ["queue", "completed", "failed", "cancelled"], ["(any", "other)", "7d", "30d", "30d"],
    ]  # fmt: skip
    lines = taskmill("retention", "q", "--completed", "36h", "--failed", "90s").out.splitlines()
    assert lines[2].split() == ["q", "1d12h", "1m30s", "-"]
    told = json.loads(taskmill("retention", "q", "--completed", "unset", "--failed", "unset", "--json").out)
    assert told["queues"] == {}
