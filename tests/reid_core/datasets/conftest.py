import pytest


@pytest.fixture(autouse=True)
def cache_apart(own_cache):
    """Every test of this folder has a cache of its own."""
