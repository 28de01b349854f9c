"""What several tests share: one run of the whole kit on profile tiny."""

import importlib.util
import os
import signal

for name, how in (("OMP_WAIT_POLICY", "passive"), ("GOMP_SPINCOUNT", "0")):  # as reid-core does, before PyTorch loads
    os.environ.setdefault(name, how)

if "PYTEST_XDIST_WORKER" in os.environ:  # such a process ignores Ctrl-C, and all that it starts would
    signal.signal(signal.SIGINT, signal.default_int_handler)

import official_structure  # noqa: E402
import pytest  # noqa: E402
from tiny_kit import Kit  # noqa: E402
from xdist.scheduler import LoadFileScheduling  # noqa: E402

from reproduction.sidecar import REPOSITORY  # noqa: E402


class Scheduling(LoadFileScheduling):
    """Side by side, a process takes whole files, and one process both that look at the one run of the kit."""

    def _split_scope(self, nodeid):
        file = super()._split_scope(nodeid)
        return "kit" if file.endswith(("test_tiny.py", "test_readme.py")) else file


def pytest_xdist_make_scheduler(config, log):
    return Scheduling(config, log)


@pytest.fixture(scope="session")
def kit(tmp_path_factory):
    """The main job on profile tiny, interrupted once by Ctrl-C and continued by the same command."""
    kit = Kit(tmp_path_factory.mktemp("tiny"))
    first = kit.results / "table1.csv"
    kit.interrupted = kit.interrupt(after=kit.results / "notebooks" / "01_datasets.ipynb")
    kit.first_written = first.stat().st_mtime_ns
    kit.had_verdicts = (kit.results / "claims.csv").exists()
    done = kit.run("reproduce")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    kit.said = done.stdout
    return kit


@pytest.fixture(scope="session")
def script():
    """script("docs/lock.py"): a script of the repository as a module."""

    def load(path):
        spec = importlib.util.spec_from_file_location(path.rpartition("/")[2].removesuffix(".py"), REPOSITORY / path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture
def own_cache(tmp_path_factory, monkeypatch):
    """Derived files of a test go to its own cache."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("REID_CORE_CACHE", str(folder))
    return folder


@pytest.fixture(scope="session")
def small_data(tmp_path_factory):
    """A data folder with all three sets in the official structure; read only."""
    return official_structure.small(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="session")
def official_arrays():
    """The folder of the official identity, camera and split arrays."""
    if (folder := official_structure.protocols()) is None:
        pytest.skip("the official arrays are not here (REID_PROTOCOLS or ../shared/protocols)")
    return folder


@pytest.fixture(scope="session")
def full_data(tmp_path_factory, official_arrays):
    """The official structure at the official counts, CUHK03 in both forms; read only."""
    return official_structure.full(tmp_path_factory.mktemp("full"), official_arrays, cuhk03="both")


@pytest.fixture
def hangup_ends():
    """SIGHUP as in a terminal: under nohup it is ignored, by the tests' own process and all that it starts."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)
