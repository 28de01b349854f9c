"""The stored notebooks: no outputs, one anatomy, defaults equal to profile smoke, short code, no functions."""

import ast
import re

import nbformat
import pytest
from jupyter_server.services.contents.largefilemanager import LargeFileManager
from traitlets.config import Config

from reproduction.runner import notebooks, profiles
from reproduction.sidecar import REPOSITORY

HEADINGS = ["Modules", "Parameters", "Paths and checks", "Load", "Compute", "Save", "Check"]
NAMES = notebooks.names()


@pytest.fixture(scope="module")
def books():
    return {name: nbformat.read(notebooks.find(name), 4) for name in NAMES}


def test_the_numbered_notebooks_are_there():
    assert len(NAMES) >= 9
    assert [name[:2] for name in NAMES] == [f"{number:02d}" for number in range(1, len(NAMES) + 1)]


@pytest.mark.parametrize("name", NAMES)
def test_stored_without_outputs(books, name):
    assert "widgets" not in books[name].metadata
    for cell in books[name].cells:
        if cell.cell_type == "code":
            assert not cell.outputs and cell.execution_count is None


def test_make_lab_saves_without_outputs(tmp_path):
    hook = re.search(r"jupyterlab notebooks --(ContentsManager)\.(\w+)=(\S+)\n", (REPOSITORY / "Makefile").read_text())
    server = LargeFileManager(root_dir=str(tmp_path), config=Config({hook[1]: {hook[2]: hook[3]}}))
    shown = nbformat.v4.new_output("stream", text="a person")
    cells = [nbformat.v4.new_code_cell("1", outputs=[shown], execution_count=3), nbformat.v4.new_markdown_cell("2")]
    book = nbformat.v4.new_notebook(cells=cells, metadata={"widgets": {"state": "a picture"}})
    server.save({"type": "notebook", "format": "json", "content": book}, "a.ipynb")
    server.save({"type": "file", "format": "text", "content": "text"}, "a.txt")
    stored = nbformat.read(tmp_path / "a.ipynb", 4)
    assert stored.cells[0].source == "1" and not stored.cells[0].outputs and not stored.cells[0].execution_count
    assert "widgets" not in stored.metadata and (tmp_path / "a.txt").read_text() == "text"


@pytest.mark.parametrize("name", NAMES)
def test_anatomy(books, name):
    texts = [cell.source for cell in books[name].cells if cell.cell_type == "markdown"]
    assert re.match(rf"# {name[:2]} ", texts[0])
    assert len(texts[0].splitlines()) > 2, "a description under the title"
    headings = [line[3:] for text in texts for line in text.splitlines() if line.startswith("## ")]
    allowed = iter([*HEADINGS, None])
    for heading in headings:
        wanted = {"Compute and save": "Compute"}.get(heading, heading)
        assert wanted in allowed, f"{heading!r} is unknown or out of order"
    assert headings[-1] == "Check"


@pytest.mark.parametrize("name", NAMES)
def test_code_is_short_and_defines_nothing(books, name):
    cells = [cell.source for cell in books[name].cells if cell.cell_type == "code"]
    lines = [
        line for source in cells for line in source.splitlines() if line.strip() and not line.strip().startswith("#")
    ]
    assert len(lines) <= 60
    kinds = {type(node) for node in ast.walk(ast.parse("\n".join(cells)))}
    assert not kinds & {ast.FunctionDef, ast.ClassDef, ast.AsyncFunctionDef}
    assert "assert " in cells[-1], "the last cell checks"


def run_until_load(book, **given):
    """A notebook's cells up to its checks, with parameters as plain papermill injects them: unchecked."""
    space = {}
    for cell in book.cells:
        if cell.source.startswith("## Load"):
            return space
        if cell.cell_type == "code":
            exec(cell.source, space)
            space |= given if "parameters" in cell.metadata.get("tags", []) else {}


@pytest.mark.parametrize("name", [name for name in NAMES if name[:2] not in ("01", "02", "07")])
def test_plain_papermills_lone_seed_is_refused_in_the_notebook_itself(books, name):
    for seeds in (0, "0", [0, 0]):
        with pytest.raises(ValueError, match=f"seeds must be a list of different seeds.*{re.escape(repr(seeds))}"):
            run_until_load(books[name], seeds=seeds)


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("01_datasets", {"own_sets": "shop.csv", "render_sizes": "none"}, "own_sets must be a list"),
        ("02_train", {"seed": "0"}, "seeds: a seed is a whole number from 0"),
        ("02_train", {"recipe": "smoke"}, "recipe is 'smoke'; it maps settings to values"),
        ("02_train", {"schedules": "market1501"}, "schedules is 'market1501'; it maps"),
        ("02_train", {"leaked_people": "keep"}, "leaked_people is 'keep'"),
        ("03_table2_cuhk03", {"literature": "LOMO"}, "literature is 'LOMO'; it is a list of methods"),
        ("04_table3_market1501", {"literature": ["LOMO", "LOMO"]}, "literature names 'LOMO' twice"),
        ("04_table3_market1501", {"k1": "20"}, "k1 is '20'; it is a number"),
        ("08_figure5_rank_lists", {"lambda_value": float("nan")}, "lambda_value=nan must lie in"),
        ("10_sensitivity", {"sensitivity_matching": {"k1": [10, 10]}}, "k1 names a value twice"),
        ("11_inside_hcn", {"near_duplicates": "drop"}, "near_duplicates is 'drop'"),
    ],
)
def test_values_without_sense_are_refused_in_the_notebook_itself(books, tmp_path, name, given, message):
    with pytest.raises(ValueError, match=message):
        run_until_load(books[name], results_root=str(tmp_path), **given)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_computed_says_its_section_of_the_paper(books, name):
    cells = iter(books[name].cells)
    heading = next(cell for cell in cells if cell.source.startswith("## Compute"))
    code = [cell.source for cell in cells if cell.cell_type == "code"]
    where = re.compile(r"(Section|Sec\.|Table|Figure) \d|Sections \d|Not in the paper")
    assert where.search(heading.source) or where.search(code[0]), code[0]


def test_tables_2_and_3_begin_with_a_row_step_by_step_and_share_the_rest(books):
    code = {name: [cell.source for cell in books[name].cells if cell.cell_type == "code"] for name in NAMES}
    second, third = code["03_table2_cuhk03"], code["04_table3_market1501"]
    for cells, steps in (
        (second, ("XQDA(", ".fit(", "k_reciprocal(")),
        (third, ("squared_euclidean(", "k_reciprocal(")),
    ):
        (by_hand,) = [source for source in cells if "evaluation.evaluate(" in source]
        assert all(step in by_hand for step in ("scoring.extract(", "split(", *steps))
        (together,) = [source for source in cells if "scoring.rows(" in source]
        assert cells.index(by_hand) < cells.index(together)
    assert by_hand not in second


@pytest.mark.parametrize("name", NAMES)
def test_defaults_are_those_of_profile_smoke(name):
    smoke = profiles.load("smoke")
    for parameter, default in notebooks.declared(notebooks.find(name)).items():
        if parameter in smoke:
            assert smoke[parameter] == default, parameter


@pytest.mark.parametrize("name", NAMES)
def test_papermill_injects_after_a_cell_that_only_assigns(name):
    assert {"profile", "data_root", "results_root"} <= set(notebooks.declared(notebooks.find(name)))
