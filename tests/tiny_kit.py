"""The command line on profile tiny, with data, results and cache in a folder of its own."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from reproduction import sidecar


def _heed_interrupts():
    """A shell's background jobs ignore SIGINT, and what they start inherits that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Kit:
    """Profile tiny in `folder`: data, results and cache there, as `places` and `environment` say."""

    def __init__(self, folder: Path):
        self.folder, self.results = folder, folder / "results"
        self.places = [f"data_root={folder / 'data'}", f"results_root={self.results}"]
        self.environment = os.environ | {"REID_CORE_CACHE": str(folder / "cache"), "MPLBACKEND": "Agg"}

    def overrides(self, *changes):
        return [*self.places, *changes]

    def command(self, name, *arguments, changes=()):
        given = [word for override in self.overrides(*changes) for word in ("-p", override)]
        return [sys.executable, "-m", "reproduction.cli", name, *arguments, "--profile", "tiny", *given]

    def run(self, name, *arguments, changes=()):
        return subprocess.run(
            self.command(name, *arguments, changes=changes),
            env=self.environment, capture_output=True, text=True, cwd=sidecar.REPOSITORY,
        )  # fmt: skip

    def interrupt(self, after: Path):
        """Start the main job, press Ctrl-C once the file `after` is there and the next step is under way."""
        process = subprocess.Popen(
            self.command("reproduce"), env=self.environment, cwd=sidecar.REPOSITORY, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True, preexec_fn=_heed_interrupts,
        )  # fmt: skip
        deadline = time.monotonic() + 300
        while not after.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.2)
        time.sleep(4)
        os.killpg(process.pid, signal.SIGINT)
        said, _ = process.communicate(timeout=120)
        return process.returncode, said
