"""The documentation holds what it says: links, snippets, names, and the reference that is written from the code."""

import ast
import importlib.util
import os
import re
import shutil
import subprocess
import textwrap
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

from cli.table import COMMANDS
from client.testing import LocalCluster
from dispatcher.routes.api.document import OPERATIONS as TABLES

OPERATIONS = [one for table in TABLES.values() for one in table.OPERATIONS]

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
OUTSIDE = {
    "SSL_CERT_FILE",
    "HTTPS_PROXY",
    "PIP_INDEX_URL",
    "OMP_NUM_THREADS",
    "CLOCK_MONOTONIC",
    "BEGIN_IMMEDIATE",
    "NO_COLOR",
}


def _id(path: Path) -> str:
    return str(path.relative_to(ROOT))


@cache
def _text(path: Path) -> str:
    return path.read_text()


def _prose(path: Path) -> str:
    """Without blocks of code."""
    return re.sub(r"^ *```.*?^ *```$", "", _text(path), flags=re.M | re.S)


def _blocks(path: Path, language: str) -> list[str]:
    found = re.findall(rf"^( *)```{language}\n(.*?)^\1```$", _text(path), re.M | re.S)
    return [textwrap.dedent(body) for _, body in found]


def _anchors(path: Path) -> set[str]:
    """Of the headings, as GitHub names them."""
    found = re.findall(r"^#+ (.+)$", _text(path), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower().strip()).replace(" ", "-") for title in found}


@pytest.mark.parametrize("path", PAGES, ids=_id)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", _prose(path)):
        if target.startswith(("http://", "https://")):
            continue
        name, _, anchor = target.partition("#")
        there = (path.parent / name).resolve() if name else path
        assert there.exists(), f"{_id(path)}: {target}"
        assert not anchor or anchor in _anchors(there), f"{_id(path)}: {target}"


def test_every_page_can_be_found_from_the_first() -> None:
    seen, rest = set(), [DOCS / "README.md"]
    while rest:
        page = rest.pop()
        seen.add(page)
        targets = re.findall(r"\]\(([^)\s]+)\)", _text(page))
        linked = {(page.parent / target.split("#")[0]).resolve() for target in targets}
        rest += [one for one in linked if one.suffix == ".md" and one.is_file() and one not in seen]
    pages = {page for page in PAGES if page.parent.name != "decisions"} - {ROOT / "README.md"}
    assert pages <= seen


@pytest.mark.parametrize("path", [path for path in PAGES if _blocks(path, "python")], ids=_id)
def test_python_parses(path: Path) -> None:
    for block in _blocks(path, "python"):
        ast.parse(block)


def test_shell_parses() -> None:
    blocks = [block for path in PAGES for block in _blocks(path, "bash")]
    assert len(blocks) >= 15
    whole = "\n".join(f"part_{n}() {{\n{block}\n}}" for n, block in enumerate(blocks))
    done = subprocess.run(["bash", "-n"], input=whole, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("path", PAGES, ids=_id)
def test_the_commands_that_are_named_exist(path: Path) -> None:
    named = set(re.findall(r"\./taskmill ([a-z]+)\b", _text(path)))
    assert named <= set(COMMANDS), named - set(COMMANDS)
    scripts = set(re.findall(r"(?<![\w/])\./([a-z_]+\.(?:sh|py))", _text(path)))
    assert all((ROOT / name).exists() for name in scripts), scripts


@pytest.mark.parametrize("path", PAGES, ids=_id)
def test_the_settings_that_are_named_exist(path: Path) -> None:
    known = set(re.findall(r"^([A-Z][A-Z0-9_]+)=", _text(ROOT / ".env.example"), re.M)) | OUTSIDE
    named = set(re.findall(r"`([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)[`=]", _prose(path)))
    in_handlers = {"PAYLOAD_SCHEMA"}
    assert named - in_handlers <= known, named - in_handlers - known


@pytest.mark.parametrize("path", PAGES, ids=_id)
def test_the_endpoints_that_are_named_exist(path: Path) -> None:
    served = {(one.method.upper(), one.path.split("/")[1]) for one in OPERATIONS}
    named = re.findall(r"`(GET|POST|PUT|PATCH|DELETE) /([a-z][a-z.-]*)", _prose(path))
    assert set(named) <= served, set(named) - served


@cache
def _reference() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_reference", DOCS / "make_reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reference_is_current() -> None:
    for name, text in _reference().pages().items():
        assert text == _text(DOCS / "reference" / name), f"{name}: run .venv/bin/python docs/make_reference.py"


def test_the_reference_has_every_setting_endpoint_and_command() -> None:
    pages = _reference().pages()
    for name in re.findall(r"^([A-Z][A-Z0-9_]+)=", _text(ROOT / ".env.example"), re.M):
        assert f"| `{name}` |" in pages["settings.md"], name
    for one in OPERATIONS:
        assert f"\n## {one.method.upper()} {one.path}\n" in pages["endpoints.md"], one.path
    for name in COMMANDS:
        assert f"\n### taskmill {name}\n" in pages["commands.md"], name
    for name in ("add_task.py", "start_dispatcher.sh", "start_worker.sh"):
        assert f"\n## {name}\n" in pages["commands.md"]
    for name in ("--host", "--concurrency", "--idempotency-key"):
        assert f"| `{name}" in pages["commands.md"]


def test_the_symptoms_that_are_quoted_are_messages_of_ours() -> None:
    folders = ("cli", "client", "common", "dispatcher", "worker")
    sources = [path for folder in folders for path in (ROOT / folder).rglob("*.py")] + [ROOT / "setup_venv.sh"]
    whole = re.sub(r'"\s*\n\s*f?"', "", "\n".join(map(_text, sources)))  # texts over several lines
    quoted = re.findall(r"^### (?:HTTP \d+[:,] )?(.*`.*)$", _text(DOCS / "troubleshooting.md"), re.M)
    parts = [part for title in quoted for one in re.findall(r"`([^`]+)`", title) for part in re.split(r"…", one)]
    assert len(parts) > 40
    missing = [part for part in (part.strip(" ,;:()=") for part in parts) if part and part not in whole]
    assert not missing


@pytest.mark.parametrize("path", sorted((DOCS / "systemd").glob("*.service")), ids=lambda path: path.name)
def test_the_units_are_good(path: Path, tmp_path: Path) -> None:
    text = _text(path)
    programs = re.findall(r"^ExecStart=/opt/taskmill/(\S+)", text, re.M)
    assert len(programs) == 1
    assert os.access(ROOT / programs[0], os.X_OK)
    documented = re.findall(r"^\| `([A-Za-z]+)", _text(DOCS / "howto" / "systemd.md"), re.M)
    assert {"Restart", "TimeoutStopSec", "LimitNOFILE"} <= set(documented)
    assert all(f"\n{name}=" in text for name in ("Restart", "TimeoutStopSec", "LimitNOFILE", "WantedBy"))
    if shutil.which("systemd-analyze"):
        here = tmp_path / path.name.replace("@", "@lab-1")
        here.write_text(text.replace("/opt/taskmill", str(ROOT)).replace("User=taskmill", "User=root"))
        done = subprocess.run(["systemd-analyze", "verify", here], capture_output=True, text=True)
        assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], list[str], Path]:
    """Its commands, its Python, and a folder with its handler."""
    page = DOCS / "quickstart.md"
    python, folder = _blocks(page, "python"), tmp_path_factory.mktemp("handlers")
    (folder / "greet_task.py").write_text(python[0])
    return _blocks(page, "bash"), python, folder


def test_the_quickstart_does_what_it_says(quickstart: tuple[list[str], list[str], Path], tmp_path: Path) -> None:
    shell, python, folder = quickstart
    starts = [block for block in shell if block.startswith("./start_")]
    assert starts == ["./start_dispatcher.sh\n", "./start_worker.sh lab-1\n"]  # what the cluster stands for
    with LocalCluster(concurrency=1, settings={"TASKS_PATH": str(folder)}, parent=tmp_path) as cluster:
        script = "set -e\n" + "".join(block for block in shell if block not in starts)
        told = _run(cluster, ["bash", "-c", script.replace("http://127.0.0.1:5000", cluster.client.url)])
        assert "9592" in told  # the primes up to 100,000
        assert "hello, Ada" in told
        assert '"status":"completed"' in told  # what curl got
        greeted = _run(cluster, [ROOT / ".venv" / "bin" / "python", "-c", python[1]])
        assert sorted(greeted.split("\n")) == ["", "hello, Ada", "hello, Grace"]


def _run(cluster: LocalCluster, words: list[str | Path]) -> str:
    env = {**cluster.env, "NO_COLOR": "1"}
    done = subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout
