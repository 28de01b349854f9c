"""The code that a notebook depends on: its own cells, and what these import of both packages, at any depth."""

import ast
import functools
import hashlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from reid_core import files
from reproduction.runner import notebooks
from reproduction.sidecar import REPOSITORY

PACKAGES = ("reid_core", "reproduction")
BESIDE = (".j2", ".css", ".js", ".yaml")  # what a module reads that lies beside it


def code(notebook: Path, deep: bool = True) -> dict[str, str]:
    """{source file: digest} of a notebook's cells and, if `deep`, of everything that they import.

    An import counts in functions too. Paths are relative to the repository, a digest is 16 digits of SHA-256."""
    cells = notebooks.cells(notebook)
    text = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    own = hashlib.sha256("\n".join(cell.source for cell in cells).encode()).hexdigest()[:16]
    return {notebook.name: own} | (code_of_module(*_imported(text)) if deep else {})


def code_of_module(*names: str) -> dict[str, str]:
    """The same of modules: these, and what they import."""
    return {str(path.relative_to(REPOSITORY)): files.digest(path)[:16] for path in sorted(_closure(names))}


def _closure(modules: Iterable[str]) -> set[Path]:
    """The source files of modules and of all that they import, with what lies beside them."""
    waiting, names, found = list(modules), set(), set()
    while waiting:
        if (name := waiting.pop()) not in names:
            names.add(name)
            for path in set(_files(name)) - found:
                found.add(path)
                waiting += _imported(path.read_text(encoding="utf-8")) if path.suffix == ".py" else ()
    return found


def _files(module: str) -> Iterator[Path]:
    """The files of a module and of the packages around it; none for a name that is no module."""
    path = REPOSITORY
    for part in module.split("."):
        path = path / part
        if (path / "__init__.py").is_file():
            yield path / "__init__.py"
            yield from (other for other in path.iterdir() if other.suffix in BESIDE)
        elif (file := path.with_suffix(".py")).is_file():
            yield file


@functools.cache
def _imported(text: str) -> tuple[str, ...]:
    """Names of both packages' modules in the import statements of a source, and of what is taken from them."""
    names = []
    for node in ast.walk(ast.parse(re.sub(r"(?m)^\s*[%!].*$", "", text))):  # Jupyter's own commands
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return tuple(name for name in names if name.partition(".")[0] in PACKAGES)
