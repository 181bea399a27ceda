"""The house rules: who may import whom, how long things may be, and that every setting is documented."""

import ast
import dataclasses
import re
import statistics
from pathlib import Path

import pytest

from common.settings import setting_name
from dispatcher.config import DispatcherSettings
from worker.config import WorkerSettings

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("common", "dispatcher", "worker", "client", "cli", "tasks")
SOURCES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))] + [
    ROOT / "add_task.py",
    ROOT / "taskmill.py",
]

# a module's place → the places it may import from, beside itself
MAY_IMPORT = {
    "common": set(),
    "tasks": set(),
    "client": {"common"},
    "worker": {"common", "client"},
    "cli": {
        "common", "client", "worker", "dispatcher.config", "dispatcher.model", "dispatcher.clock", "dispatcher.errors",
        "dispatcher.queue", "dispatcher.store", "dispatcher.move",
    },
    "dispatcher.clock": set(),
    "dispatcher.errors": set(),
    "dispatcher.meters": set(),
    "dispatcher.outward": set(),
    "dispatcher.model": set(),
    "dispatcher.process": set(),
    "dispatcher.store": {"common", "dispatcher.model", "dispatcher.clock", "dispatcher.errors", "dispatcher.meters"},
    "dispatcher.queue": {
        "common", "dispatcher.model", "dispatcher.clock", "dispatcher.errors", "dispatcher.meters", "dispatcher.store",
    },
    "dispatcher.move": {"dispatcher.queue", "dispatcher.clock", "dispatcher.errors", "dispatcher.store"},
    "dispatcher.maintenance": {"dispatcher.queue", "dispatcher.model", "dispatcher.clock", "dispatcher.errors"},
    "dispatcher.dashboard": {
        "common", "dispatcher.queue", "dispatcher.model", "dispatcher.errors", "dispatcher.routes",
    },
    "dispatcher.routes": {
        "common", "dispatcher.queue", "dispatcher.model", "dispatcher.clock", "dispatcher.errors", "dispatcher.config",
        "dispatcher.meters", "dispatcher.outward",
    },
}  # fmt: skip
WIRING = {"add_task", "taskmill"} | {f"dispatcher.{one}" for one in ("__main__", "app", "config", "running", "server")}


def _module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def _place(module: str) -> str:
    parts = module.split(".")
    return ".".join(parts[:2]) if parts[0] == "dispatcher" and len(parts) > 1 else parts[0]


def _imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.split(".")[0] in PACKAGES}


@pytest.mark.parametrize("path", SOURCES, ids=_module)
def test_imports_go_one_way(path: Path) -> None:
    place = _place(_module(path))
    if place in WIRING:
        return
    strangers = {name for name in _imports(path) if _place(name) not in MAY_IMPORT[place] | {place}}
    assert not strangers, f"{_module(path)} imports {strangers}"


@pytest.mark.parametrize("path", SOURCES, ids=_module)
def test_a_constant_is_set_once(path: Path) -> None:
    """No linter minds a second one further down, which silently is the one that counts."""
    targets = [target for node in ast.parse(path.read_text()).body if isinstance(node, ast.Assign)
               for target in node.targets]  # fmt: skip
    names = [name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)]
    assert [name for name in names if names.count(name) > 1] == []


def test_rules_know_no_sql_and_no_flask() -> None:
    for path in (ROOT / "dispatcher" / "queue").rglob("*.py"):
        assert not re.search(r"^\s*(import|from) (flask|apsw|sqlite3|psycopg)", path.read_text(), re.M), path
    assert not any(name.startswith("dispatcher.store.sqlite") for path in SOURCES
                   if _place(_module(path)) in ("dispatcher.queue", "dispatcher.maintenance", "dispatcher.routes")
                   for name in _imports(path))  # fmt: skip


def test_only_rules_read_and_write_the_store() -> None:
    """Data flows one way: route, rule, store."""
    for place in ("routes", "dashboard"):
        for path in (ROOT / "dispatcher" / place).rglob("*.py"):
            assert not re.search(r"store\.(read|write)\(", path.read_text()), path


def _functions(path: Path) -> list[tuple[int, str]]:
    tree = ast.parse(path.read_text())
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [(_length(node), f"{_module(path)}.{node.name}") for node in ast.walk(tree) if isinstance(node, kinds)]


def _length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines without the docstring."""
    first = node.body[1] if ast.get_docstring(node) and len(node.body) > 1 else node.body[0]
    return (node.end_lineno or 0) - first.lineno + 2


def test_functions_and_modules_stay_small() -> None:
    lengths = sorted(length for path in SOURCES for length in _functions(path))
    assert lengths[-1][0] <= 40, lengths[-3:]
    assert statistics.median(length for length, _ in lengths) <= 8
    long_modules = {_module(path) for path in SOURCES if path.read_text().count("\n") > 400}
    assert not long_modules


def _documented() -> list[str]:
    return re.findall(r"^([A-Z][A-Z0-9_]+)=", (ROOT / ".env.example").read_text(), re.M)


def test_every_setting_stands_once_in_the_table() -> None:
    documented = _documented()
    assert len(documented) == len(set(documented))
    used = {setting_name(field) for cls in (DispatcherSettings, WorkerSettings) for field in dataclasses.fields(cls)}
    assert used <= set(documented), used - set(documented)
    read_by_others = {"DISPATCHER_CA", "PRIMES_MAX_LIMIT", "PRIMES_DEFAULT_METHOD"}
    assert set(documented) <= used | read_by_others, set(documented) - used - read_by_others


def test_the_table_shows_the_defaults() -> None:
    from common.settings import load

    values = dict(re.findall(r"^([A-Z][A-Z0-9_]+)=(.+)$", (ROOT / ".env.example").read_text(), re.M))
    for cls in (DispatcherSettings, WorkerSettings):
        assert load(cls, values) == cls(), cls
