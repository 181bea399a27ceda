"""`taskmill logs`, `result` and `wait`, and a worker that does what they look at."""

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cli_kit import Commands, Running, wait_until

from cli.tasks import lines
from client.testing import LocalCluster

HANDLERS = {
    "talk": """
from pathlib import Path
import time

def execute(payload, context):
    for n in range(3):
        context.log(f"line {n}\\x1b[31m")
    while not Path(payload["until"]).exists():
        time.sleep(0.01)
    context.log("the end")
    return b"\\x89PNG" if payload["bytes"] else {"said": "the end"}
""",
}


def talk(cluster: LocalCluster, until: Path, as_bytes: bool = False) -> int:
    return cluster.client.submit("talk", {"until": str(until), "bytes": as_bytes})


def test_a_log_is_followed_to_the_end(taskmill: Commands, cluster: LocalCluster, tmp_path: Path) -> None:
    task_id = talk(cluster, tmp_path / "go")
    wait_until(lambda: cluster.client.log(task_id), "the first lines")
    first = taskmill("logs", str(task_id)).out
    assert first == "line 0 [31m\nline 1 [31m\nline 2 [31m\n"
    following = Running("logs", str(task_id), "-f", env=cluster.env)
    (tmp_path / "go").touch()
    assert following.ended().out == first + "the end\n"
    assert json.loads(taskmill("logs", str(task_id), "--json").out.splitlines()[-1]) == "the end"
    assert taskmill("logs", "999999", "-f").code == 4


class Talker:
    """A client whose task says one thing after another."""

    def __init__(self, *answers: dict[str, Any]) -> None:
        self.answers, self.cursors = list(answers), [""]

    def log_after(self, task_id: int, cursor: str) -> dict[str, Any]:
        assert cursor == self.cursors[-1]
        answer = self.answers.pop(0)
        self.cursors.append(answer["cursor"])
        return answer


def test_each_line_of_a_followed_log_is_shown_once() -> None:
    pauses: list[float] = []
    client: Any = Talker(
        {"lines": ["a", "b"], "cursor": "x-2", "status": "in_progress"},
        {"lines": [], "cursor": "x-2", "status": "pending"},
        {"lines": ["c"], "cursor": "y-1", "status": "completed"},
    )
    assert list(lines(client, 1, True, pauses.append)) == ["a", "b", "c"]
    assert pauses == [1.0, 1.0]


def test_a_result_goes_to_standard_output_or_a_file(cluster: LocalCluster, tmp_path: Path) -> None:
    (tmp_path / "go").touch()
    of_json, of_bytes = talk(cluster, tmp_path / "go"), talk(cluster, tmp_path / "go", True)
    cluster.client.wait(of_json, 20)
    cluster.client.wait(of_bytes, 20)
    for task_id, expected in ((of_json, b'{"said":"the end"}'), (of_bytes, b"\x89PNG")):
        target = tmp_path / f"{task_id}.out"
        said = Running("result", str(task_id), "-o", target, env=cluster.env).ended()
        assert (said.code, said.out) == (0, f"{target}: {len(expected)} bytes\n")
        assert target.read_bytes() == expected
        assert "--force" in Running("result", str(task_id), "-o", target, env=cluster.env).ended().fault
    assert Running("result", str(of_json), env=cluster.env).ended().out == '{"said":"the end"}\n'


def test_a_task_without_a_result_says_why(taskmill: Commands, cluster: LocalCluster, tmp_path: Path) -> None:
    cluster.client.pause("still")
    task_id = cluster.client.submit("noop", queue="still")
    said = taskmill("result", str(task_id), "-o", tmp_path / "out")
    assert (said.code, said.fault) == (
        1,
        f"taskmill: task {task_id} has no result: it is pending: queue still is paused\n",
    )
    assert not (tmp_path / "out").exists()
    cluster.client.cancel([task_id])
    assert "it is cancelled" in taskmill("result", str(task_id)).fault


def test_waiting_for_tasks(taskmill: Commands, cluster: LocalCluster, tmp_path: Path) -> None:
    task_id = talk(cluster, tmp_path / "go")
    late = taskmill("wait", str(task_id), "--timeout", "10ms")
    assert (late.code, late.fault) == (1, f"taskmill: not ended after 0.01 s: 1 task(s): {task_id}\n")
    threading.Timer(0.05, (tmp_path / "go").touch).start()
    said = taskmill("wait", str(task_id))
    assert (said.code, said.out) == (0, f'Task {task_id} completed: {{"said":"the end"}}\n')
    cancelled = cluster.client.submit("noop", queue="still")
    cluster.client.cancel([cancelled])
    said = taskmill("wait", str(task_id), str(cancelled), "--json")
    assert said.code == 1
    assert {json.loads(line)["status"] for line in said.out.splitlines()} == {"completed", "cancelled"}
    assert taskmill("wait", "999999").code == 4


def test_every_field_of_a_task_goes_through_the_queue(
    taskmill: Commands, cluster: LocalCluster, add_task: Callable[..., dict[str, Any]]
) -> None:
    told = add_task(
        cluster, "--type", "noop", "--key", "user:42", "--require", "nowhere", "--memory", "512M", "--backoff", "10s",
        "--wait-limit", "1h", "--total-limit", "1d", "--unique-key", "u", "--unique-for", "1h", "--delay", "1h",
    )  # fmt: skip
    task = cluster.client.task(told["task_id"])
    assert (task["key"], task["requires"], task["memory_mb"], task["unique_key"]) == ("user:42", ["nowhere"], 512, "u")
    assert (task["wait_seconds"], task["total_seconds"], task["backoff"]["first_seconds"]) == (3600, 86400, 10)
    again = add_task(cluster, "--type", "noop", "--unique-key", "u", "--unique-for", "1h")
    assert again == {"task_id": told["task_id"], "task_type": "noop", "created": False}
    shown = taskmill("task", str(told["task_id"])).out
    assert "not due until" in shown
    assert '["nowhere"]' in shown


def test_what_a_result_says_is_shown_once_and_not_at_any_length(taskmill: Commands, cluster: LocalCluster) -> None:
    task_id = cluster.client.submit("prime", {"limit": 10_000})
    cluster.client.wait(task_id, 30)
    shown = taskmill("task", str(task_id)).out
    names = [line.split()[0] for line in shown.splitlines() if line[:1].strip()]
    assert "result" in names
    assert "primes" not in names
    assert "(whole with --json)" in shown
    assert len(shown) < 6_000
