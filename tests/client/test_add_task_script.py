"""add_task.py as a program: from any directory, with and without a venv."""

import os
import stat
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def script(folder: Path, setup: str) -> Path:
    """A copy of add_task.py in a repository without libraries, with that setup_venv.sh."""
    (folder / "add_task.py").write_text((ROOT / "add_task.py").read_text())
    (folder / "setup_venv.sh").write_text(f"#!/bin/sh\ncd {folder} || exit 1\n{setup}")
    (folder / "setup_venv.sh").chmod(stat.S_IRWXU)
    return folder / "add_task.py"


def start(path: Path, *argv: str) -> "subprocess.CompletedProcess[str]":
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [sys.executable, str(path), *argv], cwd="/", env=clean, capture_output=True, text=True, timeout=20
    )


def test_the_script_runs_from_any_directory() -> None:
    ended = start(ROOT / "add_task.py", "--help")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("usage: add_task.py")
    assert os.access(ROOT / "add_task.py", os.X_OK)


def test_without_libraries_the_script_goes_on_in_the_venv(tmp_path: Path) -> None:
    (tmp_path / "python").write_text('#!/bin/sh\necho "$@"\nexit 4\n')
    (tmp_path / "python").chmod(stat.S_IRWXU)
    path = script(tmp_path, "echo installing\nmkdir -p .venv/bin\nmv python .venv/bin/\n")
    ended = start(path, "3", "--type", "a b")
    assert ended.returncode == 4
    assert ended.stdout == f"{path} 3 --type a b\n"
    assert ended.stderr == "installing\n"


def test_a_venv_that_cannot_be_made_ends_with_2(tmp_path: Path) -> None:
    ended = start(script(tmp_path, "echo no network >&2\nexit 1\n"), "1")
    assert (ended.returncode, ended.stdout, ended.stderr) == (2, "", "no network\n")


def test_a_venv_that_lacks_libraries_is_not_tried_for_ever(tmp_path: Path) -> None:
    path = script(tmp_path, f"mkdir -p {tmp_path}/.venv/bin\nln -sf {sys.executable} .venv/bin/python\n")
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "pyvenv.cfg").write_text(f"home = {Path(sys.executable).resolve().parent}\n")
    ended = start(path, "1")
    assert ended.returncode == 1
    assert "No module named 'client'" in ended.stderr


def test_a_closed_pipe_ends_quietly() -> None:
    script = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from client import cli\n"
    script += "def gone(*_): raise BrokenPipeError\ncli._run = gone\nsys.exit(cli.main([]))"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=20)
    assert (ended.returncode, ended.stderr) == (130, b"")
