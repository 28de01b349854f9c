import official_structure
import pytest


@pytest.fixture(autouse=True)
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
