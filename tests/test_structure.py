"""The plan of the house, held: the wall, the sizes, one place for each thing, and docstrings that say what there is."""

import ast
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from reid_core import datasets, evaluation, features, model, reranking, training
from reid_core.baselines import lomo
from reid_core.xqda import XQDA

ROOT = Path(__file__).resolve().parent.parent
TREES = {
    path.relative_to(ROOT).as_posix(): ast.parse(path.read_text(encoding="utf-8"))
    for package in ("reid_core", "reproduction")
    for path in sorted((ROOT / package).rglob("*.py"))
}
LIBRARY = [path for path in TREES if path.startswith("reid_core/")]

FUNCTIONS = [
    (path, function)
    for path, tree in TREES.items()
    for function in ast.walk(tree)
    if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef))
]

# What only the reproduction needs: the library is there without it.
EXTRA = ("jupyter", "jupyterlab", "jupyter_core", "jupyter_client", "papermill", "snakemake", "seaborn", "matplotlib",
         "jinja2", "yaml", "IPython", "ipywidgets", "nbformat", "nbclient", "reproduction")  # fmt: skip

# A thing that is done in one place: what the code calls there, and the room that owns it.
ONE_PLACE = {
    "Image.open": "reid_core/images.py",
    "fcntl.flock": "reid_core/files.py",
    "os.sched_getaffinity": "reid_core/machine.py",
    "tqdm": "reid_core/progress.py",
}

# Largest numbers of lines: of a module, of a function's body without its docstring, of each package.
MODULE, BODY, PACKAGES = 350, 60, {"reid_core": 7_500, "reproduction": 12_000}


API = (datasets.load, datasets.combine, model.HCN, model.ResNet50Baseline, training.train, features.extract,
       XQDA, reranking.k_reciprocal, evaluation.evaluate, lomo.extract)  # fmt: skip


def dotted(node: ast.AST) -> str:
    """The name that an expression spells, such as "os.path.join"; "" for any other expression."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def imported(path: str) -> set[str]:
    """The modules that a file imports, anywhere in it; relative ones as they resolve."""
    found = set()
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports of the kit are absolute"
            found |= {node.module, *(f"{node.module}.{name.name}" for name in node.names)}
        elif isinstance(node, ast.Call) and dotted(node.func).endswith(("import_module", "__import__")):
            found |= {word.value for word in node.args if isinstance(word, ast.Constant)}
    return found


@pytest.mark.parametrize("path", LIBRARY)
def test_no_module_of_the_library_imports_the_reproduction(path):
    assert not {name for name in imported(path) if name.split(".")[0] == "reproduction"}


def test_every_module_of_the_library_imports_alone_and_loads_nothing_that_the_reproduction_brings(tmp_path):
    """In a process that cannot find the other package, as `pip install .` without the extra leaves it."""
    (tmp_path / "reid_core").symlink_to(ROOT / "reid_core")
    modules = [path.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for path in LIBRARY]
    code = f"""
import importlib, sys
class Absent:
    def find_spec(name, path=None, target=None):
        if name.split(".")[0] == "reproduction":
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent)
for name in {modules}:
    importlib.import_module(name)
    extra = {set(EXTRA)} & {{loaded.split(".")[0] for loaded in sys.modules}}
    assert not extra, f"{{name}} loads {{extra}}"
assert importlib.util.find_spec("reid_core").origin.startswith({str(tmp_path)!r})
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-1500:]


def lines(path: str) -> int:
    return len((ROOT / path).read_text(encoding="utf-8").splitlines())


@pytest.mark.parametrize("path", sorted(TREES))
def test_a_module_can_be_read_at_one_go(path):
    assert lines(path) <= MODULE


def test_a_function_can_be_seen_at_once():
    for path, function in FUNCTIONS:
        body = function.body[1:] if ast.get_docstring(function) else function.body
        long = function.end_lineno - body[0].lineno + 1 if body else 0
        assert long <= BODY, f"{path}: {function.name} has {long} lines"


def size(package: str) -> int:
    return sum(lines(path) for path in TREES if path.startswith(f"{package}/"))


@pytest.mark.parametrize("package", PACKAGES)
def test_the_kit_stays_small(package):
    assert size(package) <= PACKAGES[package]


@pytest.mark.parametrize("call", ONE_PLACE)
def test_a_thing_that_is_done_in_one_place_is_done_there_alone(call):
    """`call` is what the code writes; a shorter import of the same function is found by its last name."""
    names = {call, call.rpartition(".")[2]} if call != "Image.open" else {call}
    users = {
        path
        for path, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and dotted(node.func) in names
    }
    assert users == {ONE_PLACE[call]}


def mapped(package: str) -> set[str]:
    """The files that the map in a package's docstring names; those of a folder stand below it, further in."""
    found, folder = set(), ""
    for line in ast.get_docstring(TREES[f"{package}/__init__.py"]).splitlines():
        if inside := re.match(r" {4}(?=\S)", line):
            folder = ""
        for name in re.findall(r"[\w.]+\.py|(?<= )\w+/(?= )", line if inside or line.startswith("      ") else ""):
            folder += name if name.endswith("/") else ""
            found |= {f"{package}/{folder}{'__init__.py' if name.endswith('/') else name}"}
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_the_map_of_a_package_names_every_file_and_no_other(package):
    files = {path for path in TREES if path.startswith(f"{package}/")}
    assert mapped(package) == files - {f"{package}/__init__.py"}


def test_the_map_says_what_each_notebook_calls():
    said = re.findall(r"^ {4}(\d\d_\w+) +(\S.*)$", ast.get_docstring(TREES["reproduction/__init__.py"]), re.MULTILINE)
    calls = {}
    for name, modules in said:
        common = ["experiment"] if name == "02_train" else ["experiment", "paper"]
        calls[name] = {*modules.split(", "), *common}
    assert calls == {path.stem: called(path) for path in sorted((ROOT / "notebooks").glob("*.ipynb"))}


def called(notebook: Path) -> set[str]:
    """The modules of the reproduction that a notebook imports, such as "intake.near_duplicates"."""
    cells = [cell["source"] for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]]
    lines = re.findall(r"^from reproduction([\w.]*) import (.+)$", "\n".join(map("".join, cells)), re.MULTILINE)
    return {f"{folder}.{name}".lstrip(".") for folder, names in lines for name in names.strip().split(", ")}


def parameters(docstring: str) -> list[str] | None:
    """Names of a NumPy docstring's section Parameters, in order; None where it has none."""
    text = inspect.cleandoc(docstring) + "\n"
    section = re.search(r"^Parameters\n-+\n(.*?)(?=\n[A-Z][^\n]*\n-{3,}\n|\Z)", text, re.DOTALL | re.MULTILINE)
    if section is None:
        return None
    heads = re.findall(r"^(\*{0,2}\w+(?:, \*{0,2}\w+)*) :", section[1], re.MULTILINE)
    return [name.lstrip("*") for head in heads for name in head.split(", ")]


def taken(function: ast.FunctionDef) -> list[str]:
    """Names of a function's parameters in order, without self and cls."""
    given = function.args
    parts = [*given.posonlyargs, *given.args, given.vararg, *given.kwonlyargs, given.kwarg]
    return [part.arg for part in parts if part and part.arg not in ("self", "cls")]


def test_what_docstrings_say_of_parameters_is_what_the_signature_says():
    said = 0
    for path, function in FUNCTIONS:
        names = parameters(ast.get_docstring(function) or "")
        if names is not None:
            said += 1
            assert names == taken(function), f"{path}: {function.name}"
    assert said > 20


@pytest.mark.parametrize("function", API, ids=lambda function: function.__qualname__)
def test_the_public_api_says_what_it_takes(function):
    names = [name for name in inspect.signature(function).parameters if name != "self"]
    assert parameters(function.__doc__) == names


@pytest.mark.parametrize("path", sorted(TREES))
def test_docstrings_are_of_one_dialect(path):
    for node in ast.walk(TREES[path]):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.Module)):
            text = ast.get_docstring(node) or ""
            assert not re.search(r"^(Args|Arguments|Returns|Raises|Yields|Attributes):$", text, re.MULTILINE)


def test_advice_never_tells_to_delete_data():
    """What is said to a user: every text that is no docstring. A dead link is no data."""
    for path, tree in TREES.items():
        documentation = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation:
                told = re.findall(r"\b(?:remove|delete|erase|rm)\b(?! the link| \w+\.py)", node.value, re.IGNORECASE)
                assert not told or "it is no data" in node.value, f"{path}:{node.lineno}: {node.value}"
