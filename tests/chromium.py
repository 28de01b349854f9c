"""A page in headless Chromium, driven over the DevTools protocol."""

import base64
import contextlib
import itertools
import json
import shutil
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import websocket

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run",
    "--disable-dev-shm-usage", "--disable-extensions", "--disable-component-update", "--remote-debugging-port=0",
)  # fmt: skip


def find() -> str | None:
    """Path of the browser, or None."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Page:
    """One page: `call` any DevTools method, `evaluate` JavaScript, wait `until` it says true, take a `screenshot`.

    `requested` lists the URL of everything that the page asked for; `errors` what its scripts threw.
    """

    def __init__(self, socket: websocket.WebSocket):
        self._socket, self._numbers = socket, itertools.count(1)
        self.requested: list[str] = []
        self.errors: list[str] = []
        for domain in ("Page", "Runtime", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters) -> dict:
        """Send a command, wait for its answer; events that come before it are noted."""
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while (answer := json.loads(self._socket.recv())).get("id") != number:
            self._note(answer)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        return answer["result"]

    def _note(self, event: dict) -> None:
        if event.get("method") == "Network.requestWillBeSent":
            self.requested.append(event["params"]["request"]["url"])
        elif event.get("method") == "Runtime.exceptionThrown":
            details = event["params"]["exceptionDetails"]
            self.errors.append(details.get("exception", {}).get("description", details["text"]))

    def open(self, url: str) -> None:
        """Load `url` and wait for its load event."""
        self.call("Page.navigate", url=url)
        self.until("document.readyState === 'complete' && location.href !== 'about:blank'", 120)

    def evaluate(self, expression: str):
        """Value of a JavaScript expression; a promise is awaited. Raises RuntimeError with what it threw."""
        answer = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            thrown = answer["exceptionDetails"]
            raise RuntimeError(thrown.get("exception", {}).get("description", thrown["text"]))
        return answer["result"].get("value")

    def until(self, expression: str, seconds: float):
        """Wait until `expression` is truthy and return it. Raises TimeoutError naming the expression."""
        end = time.monotonic() + seconds
        while not (value := self.evaluate(expression)):
            if time.monotonic() > end:
                raise TimeoutError(f"After {seconds:.0f} s still not true in the page: {expression}")
            time.sleep(0.2)
        return value

    def press(self, key: str) -> None:
        """Press and let go a key: Tab, Enter or Home."""
        code = {"Tab": 9, "Enter": 13, "Home": 36}[key]
        event = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown", **event, **({"text": "\r"} if key == "Enter" else {}))
        self.call("Input.dispatchKeyEvent", type="keyUp", **event)

    def look(self, width: int, height: int = 900, *, dark: bool = False, scale: float = 1) -> None:
        """Set the window's size in CSS pixels and the preferred colours."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale,
                  mobile=width < 600)  # fmt: skip
        preferred = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[preferred])

    def image(self, *, whole: bool = False) -> bytes:
        """What the window shows, or the whole page, as PNG."""
        return base64.b64decode(self.call("Page.captureScreenshot", captureBeyondViewport=whole)["data"])

    def screenshot(self, path: Path, *, whole: bool = False) -> Path:
        """Write what the window shows, or the whole page, as PNG."""
        path.write_bytes(self.image(whole=whole))
        return path

    def pdf(self, path: Path) -> Path:
        """Write the page as it prints."""
        answer = self.call("Page.printToPDF", preferCSSPageSize=True, printBackground=True)
        path.write_bytes(base64.b64decode(answer["data"]))
        return path


@contextlib.contextmanager
def page(browser: str) -> Iterator[Page]:
    """A fresh browser with an empty profile and one page; both are gone after the block."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [browser, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            port = _port(Path(profile) / "DevToolsActivePort", process)
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=30) as answer:
                target = next(item for item in json.load(answer) if item["type"] == "page")
            socket = websocket.create_connection(target["webSocketDebuggerUrl"], timeout=180, suppress_origin=True)
            with contextlib.closing(socket):
                yield Page(socket)
        finally:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _port(written: Path, process: subprocess.Popen, seconds: float = 60) -> int:
    end = time.monotonic() + seconds
    while not (written.exists() and (lines := written.read_text().split())):
        if process.poll() is not None or time.monotonic() > end:
            raise RuntimeError(f"{process.args[0]} did not start (status {process.poll()}).")
        time.sleep(0.1)
    return int(lines[0])
