"""Every numbered notebook as a reader uses it: opened in a real JupyterLab, Run All, looked at in a browser."""

import contextlib
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import time

import chromium
import nbformat
import pytest

from reid_core import experiment, notebooks
from reid_core.provenance import REPOSITORY

pytestmark = pytest.mark.slow

MADE = REPOSITORY / "results" / "smoke"
SECONDS = 900  # a limit against hanging, not a measurement

CELLS = (
    "lab.content.widgets.filter(cell => cell.model.type === 'code' && cell.model.sharedModel.source.trim())"
)
OUTPUTS = "cell.model.sharedModel.getOutputs()"
ENDED = f"""(() => {{
    const cells = {CELLS};
    const failed = cells.some(cell => {OUTPUTS}.some(output => output.output_type === 'error'));
    return failed || (ran && cells.every(cell => cell.model.executionCount > 0));
}})()"""
IDLE = "lab.sessionContext.session.kernel.status === 'idle'"


def _state():
    return {path: path.stat().st_mtime_ns for path in MADE.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def before():
    """The files of the smoke run and when they were changed, before any notebook runs here."""
    return _state()


@pytest.fixture(scope="module")
def folder(before, tmp_path_factory):
    """A copy of the notebooks whose results are a copy of the smoke run's, so that nothing in the checkout changes."""
    try:
        for training in experiment.trainings():
            experiment.describe_run(experiment.run_folder(MADE, *training, 0))
    except FileNotFoundError as error:
        pytest.skip(f"needs the finished smoke run (make reproduce): {error}")
    folder = tmp_path_factory.mktemp("lab")
    shutil.copytree(
        MADE, folder / "results", copy_function=_link, ignore=shutil.ignore_patterns("*.lock", ".lock")
    )
    for name in notebooks.names():
        book = nbformat.read(notebooks.find(name), as_version=4)
        declared = next(cell for cell in book.cells if "parameters" in cell.metadata.get("tags", []))
        declared.source, count = re.subn(
            r'^results_root = "results/smoke"$',
            f'results_root = "{folder / "results"}"',
            declared.source,
            flags=re.M,
        )
        assert count == 1, f"{name} has other defaults than the smoke run's results"
        nbformat.write(book, folder / f"{name}.ipynb")
    return folder


def _link(source, target):
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


@pytest.fixture(scope="module")
def server(folder, tmp_path_factory):
    """Address and token of a JupyterLab of its own: no settings of the user's, no news, no look for updates."""
    own = tmp_path_factory.mktemp("jupyter")
    names = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR",
             "JUPYTERLAB_SETTINGS_DIR", "JUPYTERLAB_WORKSPACES_DIR")  # fmt: skip
    environment = os.environ | {name: str(own / name.lower()) for name in names}
    environment |= {"JUPYTER_TOKEN": secrets.token_hex(16), "JUPYTER_PREFER_ENV_PATH": "1"}
    environment.pop("MPLBACKEND", None)
    asks = (
        own
        / "jupyterlab_settings_dir"
        / "@jupyterlab"
        / "apputils-extension"
        / "notification.jupyterlab-settings"
    )
    asks.parent.mkdir(parents=True)
    asks.write_text('{"fetchNews": "false", "checkForUpdates": false}')
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1",
        "--ServerApp.port=0", f"--ServerApp.root_dir={folder}", "--LabApp.expose_app_in_browser=True",
    ]  # fmt: skip
    with open(own / "log", "w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=folder)
    try:
        runtime = own / "jupyter_runtime_dir"
        record = _wait_for(lambda: next(runtime.glob("jpserver-*.json"), None), process, own / "log")
        yield json.loads(record.read_text())["url"], environment["JUPYTER_TOKEN"]
    finally:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(30)
        process.kill()


def _wait_for(look, process, log):
    end = time.monotonic() + 120
    while not (found := look()):
        if process.poll() is not None or time.monotonic() > end:
            raise RuntimeError(f"JupyterLab did not start:\n{log.read_text()}")
        time.sleep(0.2)
    return found


@pytest.fixture(scope="module")
def page(server):
    browser = chromium.find()
    if browser is None:
        pytest.skip("there is no Chromium here")
    address, token = server
    with chromium.page(browser) as page:
        page.look(1400, 1000)
        page.open(f"{address}lab?reset&token={token}")
        page.until("window.jupyterapp !== undefined", 120)
        page.evaluate("jupyterapp.restored.then(() => true)")
        yield page


@pytest.mark.parametrize("name", notebooks.names())
def test_run_all(page, server, folder, tmp_path, name):
    page.evaluate(f"""(async () => {{
        const asked = {{path: '{name}.ipynb', factory: 'Notebook'}};
        window.ran = false;
        window.lab = await jupyterapp.commands.execute('docmanager:open', asked);
        await lab.context.ready;
        await lab.sessionContext.ready;
    }})()""")
    page.evaluate(
        "void jupyterapp.commands.execute('notebook:run-all-cells').then(() => { window.ran = true; })"
    )
    try:
        page.until(ENDED, SECONDS)
        page.until(IDLE, 60)
        outputs = page.evaluate(f"{CELLS}.map(cell => {OUTPUTS})")
        errors = [output for cell in outputs for output in cell if output["output_type"] == "error"]
        assert not errors, f"{errors[0]['ename']}: {errors[0]['evalue']}"
        assert not [text for cell in outputs for text in _streams(cell) if _unfinished(text)]
        _see_figures(page, name, outputs)
    finally:
        page.screenshot(tmp_path / f"{name}.png")
        page.evaluate("""(async () => {
            await lab.context.save();
            await lab.sessionContext.shutdown();
            lab.dispose();
        })()""")


def _streams(outputs):
    return ["".join(output["text"]) for output in outputs if output["output_type"] == "stream"]


def _unfinished(text):
    """A progress bar that stands still below 100%, as seen once carriage returns have overwritten what was before."""
    lines = [line.rstrip("\r ").rsplit("\r", 1)[-1] for line in text.split("\n")]
    return any(re.search(r"(?<!\d)\d{1,2}%\|", line) for line in lines)


def _see_figures(page, name, outputs):
    """Every figure that the notebook saves is among its outputs, and each is drawn when scrolled to."""
    cells = [
        number for number, cell in enumerate(outputs) if any("image/png" in o.get("data", {}) for o in cell)
    ]
    for cell in outputs:
        shown = [output["data"]["image/png"] for output in cell if "image/png" in output.get("data", {})]
        assert len(shown) == len(set(shown)), "a figure is shown twice"
    source = notebooks.find(name).read_text()
    assert len(cells) >= source.count("plots.save("), f"{len(cells)} figures to be seen"
    for number in cells:
        page.evaluate(f"lab.content.scrollToItem(lab.content.widgets.indexOf({CELLS}[{number}]), 'smart')")
        page.until(
            f"""[...{CELLS}[{number}].node.querySelectorAll('img')].some(image => {{
                const seen = image.getBoundingClientRect();
                return image.complete && image.naturalWidth > 200 && seen.bottom > 0 && seen.top < innerHeight;
            }})""",
            30,
        )


def test_the_checkout_is_left_clean(folder, before):
    """What the notebooks wrote went to the copy, and the stored notebooks still have no outputs."""
    assert _state() == before
    for name in notebooks.names():
        book = nbformat.read(notebooks.find(name), as_version=4)
        assert not any(cell.get("outputs") for cell in book.cells)
