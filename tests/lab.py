"""A JupyterLab of its own in a Chromium page: notebooks opened, run and looked at as a reader does."""

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import chromium

SECONDS = 900  # a limit against hanging, not a measurement

CELLS = "lab.content.widgets.filter(cell => cell.model.type === 'code' && cell.model.sharedModel.source.trim())"
OUTPUTS = "cell.model.sharedModel.getOutputs()"
ENDED = f"""(() => {{
    const cells = {CELLS};
    const failed = cells.some(cell => {OUTPUTS}.some(output => output.output_type === 'error'));
    return failed || (ran && cells.every(cell => cell.model.executionCount > 0));
}})()"""
IDLE = "lab.sessionContext.session.kernel.status === 'idle'"

CHOOSE = """((words, value) => {
    const find = (kind, label) => [...document.querySelectorAll('.widget-' + kind)]
        .find(widget => widget.querySelector('label')?.textContent === label);
    const [list, text] = [find('dropdown', words), find('text', words)];
    const nbsp = String.fromCharCode(160);
    if (list) {
        const select = list.querySelector('select');
        select.selectedIndex = [...select.options].findIndex(option => option.text.replaceAll(nbsp, ' ') === value);
        if (select.selectedIndex < 0) throw new Error(value + ' is not offered');
        select.dispatchEvent(new Event('change', {bubbles: true}));
    } else {
        const input = text.querySelector('input');
        input.value = value;
        input.dispatchEvent(new Event('change', {bubbles: true}));
    }
})"""


@contextlib.contextmanager
def served(start: Path, own: Path) -> Iterator[str]:
    """Address of a JupyterLab started in the folder `start`: no settings of the user's, no news, no look for updates.

    What it would keep in the home folder goes to `own`.
    """
    names = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR",
             "JUPYTERLAB_SETTINGS_DIR", "JUPYTERLAB_WORKSPACES_DIR")  # fmt: skip
    environment = os.environ | {name: str(own / name.lower()) for name in names}
    environment |= {"JUPYTER_TOKEN": secrets.token_hex(16), "JUPYTER_PREFER_ENV_PATH": "1"}
    environment.pop("MPLBACKEND", None)
    settings = own / "jupyterlab_settings_dir" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    asks = settings / "notification.jupyterlab-settings"
    asks.write_text('{"fetchNews": "false", "checkForUpdates": false}')
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1",
        "--ServerApp.port=0", f"--ServerApp.root_dir={start}", "--LabApp.expose_app_in_browser=True",
    ]  # fmt: skip
    with open(own / "log", "w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=start)
    try:
        runtime = own / "jupyter_runtime_dir"
        record = _wait_for(lambda: next(runtime.glob("jpserver-*.json"), None), process, own / "log")
        yield f"{json.loads(record.read_text())['url']}lab?reset&token={environment['JUPYTER_TOKEN']}"
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


@contextlib.contextmanager
def opened(browser: str, start: Path, own: Path) -> Iterator["Lab"]:
    """A JupyterLab started in `start` and shown in a fresh browser; both end with the block."""
    with served(start, own) as address, chromium.page(browser) as page:
        page.look(1400, 1000)
        page.open(address)
        page.until("window.jupyterapp !== undefined", 120)
        page.evaluate("jupyterapp.restored.then(() => true)")
        yield Lab(page)


class Lab:
    """One JupyterLab in a `page`, with at most one notebook open."""

    def __init__(self, page: chromium.Page):
        self.page = page

    @contextlib.contextmanager
    def notebook(self, path: str) -> Iterator[None]:
        """Open a notebook, whose path is relative to where the server started; save and close it in the end."""
        self.page.evaluate(f"""(async () => {{
            window.ran = false;
            window.lab = await jupyterapp.commands.execute('docmanager:open', {{path: '{path}', factory: 'Notebook'}});
            await lab.context.ready;
            await lab.sessionContext.ready;
        }})()""")
        try:
            yield
        finally:
            self.page.evaluate("""(async () => {
                await lab.context.save();
                await lab.sessionContext.shutdown();
                lab.dispose();
            })()""")

    def start_all(self) -> None:
        """Run All, without waiting."""
        self.page.evaluate(
            "void jupyterapp.commands.execute('notebook:run-all-cells').then(() => { window.ran = true; })"
        )

    def end(self) -> list[list[dict]]:
        """Wait until every cell has run or one has failed; the outputs of each code cell."""
        self.page.until(ENDED, SECONDS)
        self.page.until(IDLE, 60)
        outputs = self.outputs()
        errors = [output for cell in outputs for output in cell if output["output_type"] == "error"]
        assert not errors, f"{errors[0]['ename']}: {errors[0]['evalue']}"
        return outputs

    def outputs(self) -> list[list[dict]]:
        """The outputs of each code cell as they are now."""
        return self.page.evaluate(f"{CELLS}.map(cell => {OUTPUTS})")

    def scroll_to(self, number: int) -> None:
        """Bring a code cell into view."""
        self.page.evaluate(f"lab.content.scrollToItem(lab.content.widgets.indexOf({CELLS}[{number}]), 'smart')")

    def choose(self, words: str, value: str) -> None:
        """Give the dropdown or the field described by `words` a value, as a reader would."""
        self.page.evaluate(f"{CHOOSE}({json.dumps(words)}, {json.dumps(value)})")
