"""Which Python setup_venv.sh takes: that of the PATH, unless it is slow and the system's own one is not."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SYSTEM = "/usr/bin/python3"
SUITS = "import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 10))"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the script in a project that needs nothing, beside a python3 that says it is a plain build. Its venvs
    have a program that does nothing: a true one takes five seconds."""
    shutil.copy(ROOT / "setup_venv.sh", tmp_path)
    (tmp_path / "requirements.txt").touch()
    shim = tmp_path / "bin" / "python3"
    shim.parent.mkdir()
    plain = f'#!/bin/sh\necho "$@" >>{tmp_path}/asked\ncase "$2" in *CONFIG_ARGS*) exit 0;; esac\n'
    venv = '[ "$1 $2" = "-m venv" ] && mkdir "$3/bin" && ln -s /bin/true "$3/bin/python" && exit\n'
    shim.write_text(f'{plain}{venv}exec {sys.executable} "$@"\n')
    shim.chmod(0o755)
    return tmp_path


def set_up(project: Path, **more: str) -> tuple[str, bool]:
    """What it says, and whether it made the venv with the python3 of the PATH."""
    path = f"{project / 'bin'}:{os.environ['PATH']}"
    env = {name: value for name, value in os.environ.items() if name != "PYTHON"} | {"PATH": path, **more}
    ended = subprocess.run(
        ["bash", str(project / "setup_venv.sh")], env=env, capture_output=True, text=True, timeout=120, check=True
    )
    assert (project / ".venv" / "bin" / "python").exists()
    return ended.stderr, "-m venv" in (project / "asked").read_text()


def test_the_systems_python_is_taken_where_that_of_the_path_is_slow(project: Path) -> None:
    told, of_path = set_up(project)
    suits = subprocess.run([SYSTEM, "-c", SUITS], check=False, capture_output=True).returncode == 0
    assert (f"taking {SYSTEM}; {project / 'bin' / 'python3'} was built without" in told) == suits
    assert of_path != suits


@pytest.mark.parametrize("named", ["python3", "bin/python3"])
def test_who_names_a_python_gets_it(project: Path, named: str) -> None:
    told, of_path = set_up(project, PYTHON=named if named == "python3" else str(project / named))
    assert "taking" not in told
    assert of_path
