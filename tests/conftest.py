"""What several tests share: one run of the whole kit on profile tiny."""

import pytest
from tiny_kit import Kit


@pytest.fixture(scope="session")
def kit(tmp_path_factory):
    """The main job on profile tiny, interrupted once by Ctrl-C and continued by the same command."""
    kit = Kit(tmp_path_factory.mktemp("tiny"))
    first = kit.results / "table1.csv"
    kit.interrupted = kit.interrupt(after=kit.results / "notebooks" / "01_datasets.ipynb")
    kit.first_written = first.stat().st_mtime_ns
    kit.had_report = (kit.results / "report.html").exists()
    done = kit.run("reproduce")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    kit.said = done.stdout
    return kit
