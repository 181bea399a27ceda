"""Builds the distribution (the rest is told in pyproject.toml).

In the repository our folders are the packages `client`, `tasks`, `worker` …; where Taskmill is installed these names
are the user's, and ours are `taskmill.client` …: the build copies the folders below `taskmill/`, and writes the longer
names into their import statements. Modules that are named in a text go through `common/places.py`.
"""

import ast
import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.editable_wheel import editable_wheel
from setuptools.errors import SetupError

FOLDERS = ("cli", "client", "common", "dispatcher", "tasks", "worker")
NAME = "taskmill"


def renamed(source: str) -> str:
    """A module's text with `from client…` as `from taskmill.client…`; raises SetupError for a plain `import client`."""
    lines = source.splitlines(keepends=True)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import) and any(_is_ours(alias.name) for alias in node.names):
            raise SetupError(
                f"line {node.lineno}: write `from … import …` for a module of ours, so that it can be renamed"
            )
        if isinstance(node, ast.ImportFrom) and not node.level and _is_ours(node.module or ""):
            line = lines[node.lineno - 1]
            lines[node.lineno - 1] = line.replace(f"from {node.module}", f"from {NAME}.{node.module}", 1)
    return "".join(lines)


def _is_ours(module: str) -> bool:
    return module.split(".")[0] in FOLDERS


class Build(build_py):
    """Copies our folders, whatever lies in them (SQL, templates), with renamed imports."""

    def run(self) -> None:
        """Into a fresh folder: what an older build left there must not be shipped."""
        root, target = Path(__file__).resolve().parent, Path(self.build_lib) / NAME
        shutil.rmtree(target, ignore_errors=True)
        for folder in FOLDERS:
            shutil.copytree(root / folder, target / folder, ignore=shutil.ignore_patterns("__pycache__", "*.pyc", ".*"))
        shutil.copy(root / f"{NAME}.py", target / "__init__.py")
        for path in target.rglob("*.py"):
            path.write_text(renamed(path.read_text(encoding="utf-8")), encoding="utf-8")
        (target / "py.typed").touch()


class Refuse(editable_wheel):
    """`pip install -e`."""

    def run(self) -> None:
        """Not possible."""
        raise SetupError("an editable install is not possible, since modules are renamed: work in the repository")


setup(py_modules=[NAME], cmdclass={"build_py": Build, "editable_wheel": Refuse})
