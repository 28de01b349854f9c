"""Every numbered notebook as a reader uses it: opened in a real JupyterLab, Run All, looked at in a browser."""

import base64
import io
import json
import os
import re
import shutil
import time

import chromium
import lab
import nbformat
import numpy as np
import pytest
from PIL import Image

from reid_core.machine import choose
from reproduction import experiment, explorer, plots, ranklists
from reproduction.runner import notebooks
from reproduction.sidecar import REPOSITORY

pytestmark = pytest.mark.slow

MADE = REPOSITORY / "results" / "smoke"


def _state():
    return {path: path.stat().st_mtime_ns for path in MADE.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def before():
    """The files of the smoke run and when they were changed, before any notebook runs here."""
    return _state()


@pytest.fixture(scope="module")
def folder(before, tmp_path_factory):
    """A folder like the checkout, with notebooks/ whose results are a copy of the smoke run's: nothing here changes."""
    try:
        for training in experiment.trainings():
            experiment.Experiment("smoke", "data/embedded/smoke", MADE).run(*training, 0).check()
    except FileNotFoundError as error:
        pytest.skip(f"needs the finished smoke run (make reproduce): {error}")
    folder = tmp_path_factory.mktemp("lab")
    (folder / "notebooks").mkdir()
    shutil.copytree(MADE, folder / "results", copy_function=_link, ignore=shutil.ignore_patterns("*.lock", ".lock"))
    for name in notebooks.names():
        results = {'"results/smoke"': f'"{folder / "results"}"'}
        _copy(name, folder / "notebooks" / f"{name}.ipynb", results)
    return folder


def _link(source, target):
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _copy(name, target, changes):
    """Copy a notebook with other defaults: {what its parameters say: what the copy's say}."""
    book = nbformat.read(notebooks.find(name), as_version=4)
    declared = next(cell for cell in book.cells if "parameters" in cell.metadata.get("tags", []))
    for old, new in changes.items():
        assert declared.source.count(old) == 1, f"{name} has other defaults than profile smoke: no {old}"
        declared.source = declared.source.replace(old, new)
    nbformat.write(book, target)


def _opened(start, tmp_path_factory):
    browser = chromium.find()
    if browser is None:
        pytest.skip("there is no Chromium here")
    return lab.opened(browser, start, tmp_path_factory.mktemp("jupyter"))


@pytest.fixture(scope="module")
def root_lab(folder, tmp_path_factory):
    """A JupyterLab started in the root of the checkout's copy."""
    with _opened(folder, tmp_path_factory) as opened:
        yield opened


@pytest.mark.parametrize("name", notebooks.names())
def test_run_all(root_lab, tmp_path, name):
    with root_lab.notebook(f"notebooks/{name}.ipynb"):
        root_lab.start_all()
        try:
            _see(root_lab, name, root_lab.end())
        finally:
            root_lab.page.screenshot(tmp_path / f"{name}.png")


def test_run_all_where_jupyterlab_was_started_in_the_notebooks_own_folder(folder, tmp_path_factory):
    name = "07_figure4_ap_and_cmc"
    with _opened(folder / "notebooks", tmp_path_factory) as own_lab, own_lab.notebook(f"{name}.ipynb"):
        own_lab.start_all()
        _see(own_lab, name, own_lab.end())


def _see(in_lab, name, outputs):
    """No progress line is left; every figure that the notebook saves is there and drawn when scrolled to."""
    streams = [output for cell in outputs for output in cell if output["output_type"] == "stream"]
    lines = [notebooks.as_seen(line) for output in streams for line in "".join(output["text"]).split("\n")]
    assert not [line for line in lines if "%|" in line]
    cells = [number for number, cell in enumerate(outputs) if _pictures(cell)]
    for cell in outputs:
        assert len(_pictures(cell)) == len(set(_pictures(cell))), "a figure is shown twice"
    source = notebooks.find(name).read_text()
    assert len(cells) >= source.count("plots.save("), f"{len(cells)} figures to be seen"
    for number in cells:
        in_lab.scroll_to(number)
        in_lab.page.until(
            f"""[...{lab.CELLS}[{number}].node.querySelectorAll('img')].some(image => {{
                const seen = image.getBoundingClientRect();
                return image.complete && image.naturalWidth > 200 && seen.bottom > 0 && seen.top < innerHeight;
            }})""",
            30,
        )


def _pictures(cell):
    return [output["data"]["image/png"] for output in cell if "image/png" in output.get("data", {})]


def test_a_training_shows_one_live_progress_line_with_time_left(root_lab, folder):
    iterations = '"market1501": {"iterations": %d}'
    count = 25 if choose(None).type == "cpu" else 400  # on a GPU the line moves once in 50 iterations
    anew = {'"results/smoke"': f'"{folder / "anew"}"', iterations % 40: iterations % count}
    _copy("02_train", folder / "notebooks" / "train.ipynb", anew)
    with root_lab.notebook("notebooks/train.ipynb"):
        root_lab.start_all()
        lines = f"""{lab.CELLS}.flatMap(cell => [...cell.node.querySelectorAll('.jp-OutputArea-output')])
            .flatMap(area => area.innerText.split('\\n')).filter(line => line.includes('%|'))"""
        pattern = rf"/Train hcn: +\d+%\|.*\d+\/{count} \[\d\d:\d\d<\d\d:\d\d/"
        seen = root_lab.page.until(
            f"(lines => lines.some(line => {pattern}.test(line)) && lines)({lines})", lab.SECONDS
        )
        assert len(seen) == 1, f"several at a time: {seen}"
        root_lab.end()
        assert root_lab.page.evaluate(lines) == []


def test_the_explorer_shows_what_is_chosen_in_the_page(root_lab, folder, tmp_path):
    page, name = root_lab.page, "08_figure5_rank_lists"
    kit = experiment.Experiment("smoke", "data/embedded/smoke", MADE)
    queries = kit.images("market1501").query("subset == 'query'").image_path
    with root_lab.notebook(f"notebooks/{name}.ipynb"):
        root_lab.start_all()
        root_lab.end()
        number = next(i for i, cell in enumerate(root_lab.outputs()) if len(cell) > 1 and _pictures(cell))
        root_lab.scroll_to(number)
        says = f"{lab.CELLS}[{number}].node.querySelector('.widget-html-content').innerText"
        page.until(f"{says}.startsWith('CUHK03 labeled, query ')", 30)
        first = _picture(root_lab, number)
        page.screenshot(tmp_path / "explorer_first.png")

        def choose(words, value, said):
            before = json.dumps(page.evaluate(says))
            root_lab.choose(words, value)
            return page.until(f"{says} !== {before} && {says}.includes({json.dumps(said)}) && {says}", 120)

        page.evaluate(f"""(line => {{
            window.said = [];
            new MutationObserver(() => said.push(line.innerText)).observe(line, {{childList: true, subtree: true}});
        }})({lab.CELLS}[{number}].node.querySelector('.widget-html-content'))""")
        choose("data set", "Market-1501", "Market-1501, query ")
        assert any(text.startswith("Working on ") for text in page.evaluate("said")), "a word of progress"
        choose("query", "by number", "query 0:")
        choose("number", "17", "query 17:")
        assert _settled(root_lab, number, queries.iloc[17]) != first
        assert not _shows(_picture(root_lab, number), queries.iloc[18])
        page.screenshot(tmp_path / "explorer_query_17.png")
        choose("number", "999", "There is no query 999: Market-1501 has the queries 0 to ")
        assert _shows(_picture(root_lab, number), queries.iloc[17]), "the last picture stays"
        choose("query", explorer.RULES["reranking"], "Re-ranking changes the upper method's AP by +")
        choose("upper list", plots.TITLES["hcn"], "Re-ranking changes the upper method's AP by +")
        said = choose("query", explorer.RULES["worst"], "(worst AP of the upper list)")
        last = _settled(root_lab, number, queries.iloc[int(re.search(r"query (\d+)", said)[1])])
        page.screenshot(tmp_path / "explorer_worst.png")
        assert not page.errors
    saved = nbformat.read(folder / "notebooks" / f"{name}.ipynb", as_version=4).cells
    assert any(last in _pictures(cell.get("outputs", [])) for cell in saved), "the notebook keeps the last picture"


def _picture(in_lab, number):
    """The picture that a cell shows, as base64."""
    return _pictures(in_lab.outputs()[number])[-1]


def _drawn(in_lab, number):
    """The picture that the page draws for a cell, as base64 on one line."""
    image = f"{lab.CELLS}[{number}].node.querySelector('.jp-OutputArea img')"
    return in_lab.page.evaluate(f"{image}.src").partition("base64,")[2]


def _settled(in_lab, number, path):
    """The picture of a cell once it has the image `path` as its query, the page has drawn it, and it stays."""
    deadline = time.monotonic() + 60  # a picture comes on a way of its own, often after the text beside it
    while True:
        picture = _picture(in_lab, number)
        if _shows(picture, path) and _drawn(in_lab, number) == picture.replace("\n", ""):
            time.sleep(1)
            if _picture(in_lab, number) == picture:
                return picture
        assert time.monotonic() < deadline, f"{path} is not drawn"
        time.sleep(0.1)


def _shows(picture, path):
    """Whether a rank list's picture has the image `path` as its query: small differences are the drawing's."""
    whole = Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB")
    columns = ranklists.TOP + ranklists.PASSED_OVER + 1
    scale = whole.width / (columns * plots.PITCH + plots.GAP)
    top = plots.TITLE + plots.LIST - plots.UNDER - plots.SIZE[1]
    corners = [plots.SIDE, top, plots.SIDE + plots.SIZE[0], top + plots.SIZE[1]]
    seen = whole.crop([round(scale * corner) for corner in corners]).resize((8, 16), Image.Resampling.BOX)
    wanted = Image.open(path).convert("RGB").resize((8, 16), Image.Resampling.BOX)
    inner = np.s_[1:-1, 1:-1]  # within the frame
    return np.abs(np.asarray(seen, int)[inner] - np.asarray(wanted, int)[inner]).mean() < 6


def test_the_checkout_is_left_clean(folder, before):
    """What the notebooks wrote went to the copy, and the stored notebooks still have no outputs."""
    assert _state() == before
    for name in notebooks.names():
        book = nbformat.read(notebooks.find(name), as_version=4)
        assert not any(cell.get("outputs") for cell in book.cells)
