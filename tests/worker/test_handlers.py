"""Finding and probing handlers."""

from pathlib import Path

import pytest
from process_helpers import HANDLERS, gone, wait_for

from worker.children.handlers import discover, probe

GOOD = "def execute(payload, context): pass\n"


def write(folder: Path, **sources: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name, source in sources.items():
        (folder / f"{name}_task.py").write_text(source)
    return folder


def test_the_file_name_is_the_type_and_the_first_folder_wins(tmp_path: Path) -> None:
    first = write(tmp_path / "first", a=GOOD, b=GOOD)
    second = write(tmp_path / "second", b=GOOD, c=GOOD)
    (second / "helper.py").touch()
    (second / "no type_task.py").touch()
    found = discover((first, second, tmp_path / "missing"))
    assert found.files == {
        "a": first / "a_task.py",
        "b": first / "b_task.py",
        "c": second / "c_task.py",
    }
    assert f"taken by {first}/b_task.py" in found.errors[str(second / "b_task.py")]
    assert "'no type' is no task type" in found.errors[str(second / "no type_task.py")]
    assert found.errors[str(tmp_path / "missing")] == "no such folder"


def test_probe_tells_types_and_schemas() -> None:
    found = probe((HANDLERS,))
    assert found.errors == {}
    assert found.types["echo"] is None
    assert found.types["payload"]["properties"]["limit"]["type"] == "integer"


def test_a_schema_may_be_a_plain_dict(tmp_path: Path) -> None:
    write(tmp_path, plain=GOOD + "PAYLOAD_SCHEMA = {'type': 'object'}\n")
    assert probe((tmp_path,)).types == {"plain": {"type": "object"}}


WRONG = {
    "missing": ("x = 1\n", "has no function execute"),
    "callable": ("execute = print\n", "has no function execute"),
    "names": ("def execute(data): pass\n", "has the parameters (data); they must be (task_id, payload) or"),
    "order": ("def execute(payload, task_id): pass\n", "has the parameters (payload, task_id)"),
    "more": ("def execute(payload, context, *, more=1): pass\n", "has the parameters (payload, context, more)"),
    "variable": ("def execute(*args): pass\n", "they must be"),
    "waits": ("async def execute(payload, context): pass\n", "neither async nor a generator"),
    "yields": ("def execute(payload, context): yield\n", "neither async nor a generator"),
    "syntax": ("def execute(:\n", "SyntaxError"),
    "raises": ("raise ValueError('no data set')\n", "ValueError: no data set\nTraceback"),
    "exits": ("raise SystemExit(2)\n", "SystemExit: 2"),
    "schema": (GOOD + "PAYLOAD_SCHEMA = {'not': {1, 2}}\n", "$.not: set is not JSON"),
    "schema_list": (GOOD + "PAYLOAD_SCHEMA = ['limit']\n", "PAYLOAD_SCHEMA is a list; it must be a dict"),
    "schema_true": (GOOD + "PAYLOAD_SCHEMA = True\n", "PAYLOAD_SCHEMA is a bool; it must be a dict"),
}


def test_a_wrong_handler_is_named_with_its_reason(tmp_path: Path) -> None:
    write(tmp_path, good=GOOD, **{name: source for name, (source, _) in WRONG.items()})
    found = probe((tmp_path,))
    assert set(found.types) == {"good"}
    for name, (_, reason) in WRONG.items():
        assert found.errors[name].startswith(f"{tmp_path}/{name}_task.py: "), found.errors[name]
        assert reason in found.errors[name]


def test_a_decorated_handler_keeps_its_form(tmp_path: Path) -> None:
    source = "import functools\ndef traced(f):\n    @functools.wraps(f)\n    def g(*a): return f(*a)\n    return g\n"
    write(tmp_path, traced=f"{source}@traced\n{GOOD}")
    assert probe((tmp_path,)).types == {"traced": None}


def test_a_handler_that_ends_the_interpreter_hides_no_other(tmp_path: Path) -> None:
    write(
        tmp_path,
        a=GOOD,
        b="import os; os._exit(7)\n",
        c="print('{}')\n" + GOOD,
        d="import ctypes; ctypes.string_at(0)\n",
        e=GOOD,
    )
    found = probe((tmp_path,))
    assert set(found.types) == {"a", "c", "e"}
    assert found.errors["b"] == f"{tmp_path}/b_task.py: its import ended the interpreter: child exited with code 7"
    assert "SIGSEGV" in found.errors["d"]


def test_a_handler_that_hangs_at_import_hides_no_other(tmp_path: Path) -> None:
    note = tmp_path / "pids"
    start = "import subprocess\nsleep = subprocess.Popen(['sleep', '1000'])\n"
    start += f"with open({str(note)!r}, 'w') as note: note.write(str(sleep.pid))\n"
    write(tmp_path, a=GOOD, b=start + "sleep.wait()\n", c=GOOD)
    found = probe((tmp_path,), seconds=3.0)
    assert set(found.types) == {"a", "c"}
    assert found.errors["b"].endswith("its import took more than 3 s")
    wait_for(lambda: gone(int(note.read_text())))


def test_a_probe_that_is_killed_once_is_repeated(tmp_path: Path) -> None:
    """By the system, short of memory: no handler's fault, and a worker that skips one would be silent about it."""
    once = f"""
import os, signal
if not os.path.exists({str(tmp_path / "killed")!r}):
    open({str(tmp_path / "killed")!r}, "w").close()
    os.kill(os.getpid(), signal.SIGKILL)
"""
    always = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)\n"
    found = probe((write(tmp_path / "folder", a=once + GOOD, b=always + GOOD, c=GOOD),))
    assert set(found.types) == {"a", "c"}
    assert "SIGKILL" in found.errors["b"]


def test_handlers_find_siblings_and_the_repositorys_own(tmp_path: Path) -> None:
    write(tmp_path, near="import near_helper, tasks\n" + GOOD)
    (tmp_path / "near_helper.py").touch()
    assert probe((tmp_path,)).types == {"near": None}


def test_probing_children_know_no_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPATCHER_TOKEN", "secret")
    write(tmp_path, nosy="import os\nassert 'DISPATCHER_TOKEN' not in os.environ\n" + GOOD)
    assert probe((tmp_path,)).errors == {}
