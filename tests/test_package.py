"""The distribution: its names, its libraries, and that it runs where nothing else of Taskmill is."""

import os
import re
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from email.parser import BytesParser
from pathlib import Path
from shutil import copytree, ignore_patterns

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import taskmill
from common.version import VERSION

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("cli", "client", "common", "dispatcher", "tasks", "worker")
BUILD = """
import os, shutil, sys
from setuptools import build_meta
target = sys.argv[1]
source = os.path.join(target, build_meta.build_sdist(target))
shutil.unpack_archive(source, target)
os.chdir(source.removesuffix(".tar.gz"))
build_meta.build_wheel(target)
"""
NOT_SHIPPED = ignore_patterns(
    ".*", "build", "data", "cache", "tests", "benchmarks", "docs", "__pycache__", "*.egg-info"
)
EDITABLE = "import sys; from setuptools import build_meta; build_meta.build_editable(sys.argv[1])"
GREET = """
from taskmill import Fail
from client import greeting  # the user's own module of this name

def execute(payload, context):
    context.log("greeting")
    if not payload["name"]:
        raise Fail("nobody", retry=False)
    return greeting(payload["name"])
"""
PROGRAM = """
import os
from pathlib import Path
from urllib.request import urlopen
import client
from taskmill import Client, TaskFailed, __version__
assert Path(client.__file__).parent == Path.cwd() / "tasks", client.__file__
assert b"<html" in urlopen(os.environ["DISPATCHER_URL"]).read(), "the dashboard's templates"
with Client() as one:
    print(__version__, one.result(one.submit("greet", {"name": "Ada"}), timeout=25))
    try:
        one.result(one.submit("greet", {"name": ""}), timeout=25)
    except TaskFailed as error:
        print(error.task["attempts"], error.error.splitlines()[0])
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the source distribution, and that from a copy of the tree, with no network."""
    source, target = tmp_path_factory.mktemp("source") / "taskmill", tmp_path_factory.mktemp("wheel")
    copytree(ROOT, source, ignore=NOT_SHIPPED)
    subprocess.run([sys.executable, "-c", BUILD, target], cwd=source, check=True, capture_output=True)
    return next(target.glob("*.whl"))


@pytest.fixture(scope="module")
def programs(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs of a venv with the wheel; the libraries are those of this one."""
    venv = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    libraries = Path(pytest.__file__).parent.parent
    (next(venv.glob("lib/python*/site-packages")) / "libraries.pth").write_text(f"{libraries}\n")
    options = ["--no-deps", "--no-index", "--disable-pip-version-check", "--quiet"]
    subprocess.run([venv / "bin" / "python", "-m", "pip", "install", *options, wheel], check=True)
    return venv / "bin"


def test_an_editable_install_is_refused(tmp_path: Path) -> None:
    copytree(ROOT, tmp_path / "taskmill", ignore=NOT_SHIPPED)
    words = [sys.executable, "-c", EDITABLE, tmp_path]
    told = subprocess.run(words, cwd=tmp_path / "taskmill", check=False, capture_output=True, text=True)
    assert told.returncode
    assert "an editable install is not possible" in told.stderr


def _names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_the_wheel_takes_one_name(wheel: Path) -> None:
    names = _names(wheel)
    assert {name.split("/")[0] for name in names} == {"taskmill", f"taskmill-{VERSION}.dist-info"}
    assert "taskmill/py.typed" in names


def test_the_wheel_holds_every_file_of_our_folders(wheel: Path) -> None:
    files = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.is_file()]
    ours = {f"taskmill/{path.relative_to(ROOT)}" for path in files if path.suffix != ".pyc"}
    assert len([name for name in ours if name.endswith(".sql")]) > 10
    assert ours <= _names(wheel)


def test_no_module_of_the_wheel_asks_for_a_top_level_name_of_ours(wheel: Path) -> None:
    pattern = re.compile(rf"^\s*(from|import) ({'|'.join(FOLDERS)})\b", re.M)
    with zipfile.ZipFile(wheel) as archive:
        texts = {name: archive.read(name).decode() for name in archive.namelist() if name.endswith(".py")}
    assert not [name for name, text in texts.items() if pattern.search(text)]
    assert "from taskmill.client.client import Client" in texts["taskmill/__init__.py"]


def test_dependencies_are_those_of_the_repository(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        metadata = BytesParser().parsebytes(archive.read(f"taskmill-{VERSION}.dist-info/METADATA"))
    told = [Requirement(text) for text in metadata.get_all("Requires-Dist") or []]
    asked = [one for one in told if one.name != "taskmill"]
    assert {one.name for one in told if one.marker is None} == {"httptools", "python-dotenv"}
    assert set(metadata.get_all("Provides-Extra") or []) == {"dispatcher", "worker", "operator", "all"}
    lines = re.findall(r"^[a-z].*$", (ROOT / "requirements.txt").read_text(), re.M)
    pinned = [(canonicalize_name(one.name), one.specifier) for one in map(Requirement, lines)]
    aside = {"pytest", "requests"}  # for the tests; not imported by our folders
    assert {canonicalize_name(one.name) for one in asked} == {name for name, _ in pinned} - aside
    for one in asked:
        for specifier in (specifier for name, specifier in pinned if name == canonicalize_name(one.name)):
            assert one.specifier.contains(next(iter(specifier)).version), one


def test_the_names_of_the_package_are_there_in_the_repository_too() -> None:
    assert taskmill.__version__ == VERSION
    assert all(getattr(taskmill, name) for name in taskmill.__all__)
    with pytest.raises(AttributeError, match="Clientt"):
        taskmill.Clientt  # noqa: B018


@contextmanager
def _started(*words: str | Path, cwd: Path, env: dict[str, str]) -> Iterator[Path]:
    """A process that runs meanwhile; the file of its log."""
    log = cwd / f"{Path(words[0]).name}.log"
    with log.open("wb") as file:
        process = subprocess.Popen(words, cwd=cwd, env=env, stdout=file, stderr=file)
    try:
        yield log
    finally:
        process.terminate()
        assert process.wait(30) == 0, log.read_text()


def _until(log: Path, pattern: str) -> str:
    deadline = time.monotonic() + 30
    while not (found := re.search(pattern, log.read_text())):
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.02)
    return found.group(1)


def test_it_runs_in_an_empty_folder(programs: Path, tmp_path: Path) -> None:
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "greet_task.py").write_text(GREET)
    (tmp_path / "tasks" / "client.py").write_text("def greeting(name): return {'hello': name}\n")
    unset = dict.fromkeys(("DATABASE_URL", "DB_PATH", "CACHE_DIR", "TASKS_PATH", "DISPATCHER_TOKEN"), "")
    env = {**os.environ, **unset, "DISPATCHER_PORT": "0", "WORKER_CONCURRENCY": "1"}
    with _started(programs / "taskmill-dispatcher", cwd=tmp_path, env=env) as log:
        env["DISPATCHER_URL"] = _until(log, r"listening on (\S+)")
        with _started(programs / "taskmill-worker", "lab-1", cwd=tmp_path, env=env):
            told = _output(programs / "python", "-c", PROGRAM, cwd=tmp_path, env={**env, "PYTHONPATH": "tasks"})
            assert told.splitlines() == [f"{VERSION} {{'hello': 'Ada'}}", "1 nobody"]
            added = _output(programs / "taskmill-add", "--type", "noop", "--wait", "--json", cwd=tmp_path, env=env)
            assert '"status":"completed"' in added
            assert "greet" in _output(programs / "taskmill", "tasks", cwd=tmp_path, env=env)
    assert (tmp_path / "data" / "taskmill.db").exists()


def _output(*words: str | Path, cwd: Path, env: dict[str, str]) -> str:
    done = subprocess.run(words, cwd=cwd, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_part_whose_libraries_are_missing_says_what_to_install(programs: Path, tmp_path: Path) -> None:
    (tmp_path / "flask.py").write_text("raise ModuleNotFoundError('No module named flask', name='flask')\n")
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([programs / "taskmill-dispatcher"], env=env, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "No module named flask: this part needs  pip install 'taskmill[dispatcher]'\n"
