"""Fixtures of tests that train: toy pictures, a thin backbone, a recipe of seconds, a cache of their own."""

import pytest
import torch
import toy_pictures

from reid_core import model
from reid_core.training import Recipe


@pytest.fixture(scope="session")
def toy_root(tmp_path_factory):
    """A data folder of toy pictures; read only."""
    return tmp_path_factory.mktemp("toy_root")


@pytest.fixture(scope="session")
def toy_table(toy_root):
    """24 labelled training images of 6 people."""
    return toy_pictures.write(toy_root)


@pytest.fixture(autouse=True, scope="session")
def training_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REID_CORE_CACHE", str(tmp_path_factory.mktemp("training_cache")))
        yield


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Networks this small gain nothing from threads, and wait for each other on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True, scope="module")
def thin_backbones():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model, "_backbone", model._backbone)  # so that it is put back
        toy_pictures.make_backbones_thin()
        yield


@pytest.fixture
def quick():
    """A recipe of seconds."""
    return Recipe(
        backbone="resnet18",
        weights="random",
        batchnorm="live",
        height=32,
        width=32,
        batch_size=4,
        iterations=8,
        base_lr=0.01,
        lr_step=5,
        checkpoint_every=3,
    )
