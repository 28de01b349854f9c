"""The full size through the ordinary loaders: Table 1's numbers, with blank pictures in place of drawn ones."""

import io

import numpy as np
import pytest
from PIL import Image

from reid_core import datasets
from reproduction.embedded import Sizes, layouts, render

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    stream = io.BytesIO()
    Image.new("RGB", (8, 16)).save(stream, "PNG")

    def blank_boxes(world, frame):
        blank = np.zeros((3, 8, 16), np.uint8)
        return {form: blank for form in ("labeled", "detected") if getattr(frame, form)}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layouts, "market_file", lambda world, image: stream.getvalue())
        patch.setattr(layouts, "cuhk01_file", lambda world, image: stream.getvalue())
        patch.setattr(layouts, "cuhk03_boxes", blank_boxes)
        folder = tmp_path_factory.mktemp("full")
        patch.setenv("REID_CORE_CACHE", str(folder / "cache"))
        yield render(folder / "data", Sizes.full(), workers=1, progress=False)


@pytest.mark.parametrize(
    ("name", "options", "images", "people"),
    [
        ("market1501", {}, (12_936, 3_368, 19_732), (751, 750)),
        ("cuhk03", {"boxes": "labeled"}, (7_368, 1_400, 5_328), (767, 700)),
        ("cuhk03", {"boxes": "detected"}, (7_365, 1_400, 5_332), (767, 700)),
    ],
    ids=["market1501", "labeled", "detected"],
)
def test_the_full_size_loads_to_the_official_numbers(root, name, options, images, people):
    table = datasets.load(name, root, **options)
    assert tuple((table.subset == s).sum() for s in ("train", "query", "gallery")) == images
    train, query = table[table.subset == "train"], table[table.subset == "query"]
    assert (train.person_id.nunique(), query.person_id.nunique()) == people
    gallery = table[table.subset == "gallery"]
    matches = query.merge(gallery, on="person_id")
    elsewhere = matches[matches.camera_id_x != matches.camera_id_y]
    assert set(elsewhere.image_path_x) == set(query.image_path), "every query has a match in another camera"


def test_cuhk01_loads_to_the_official_numbers(root):
    table = datasets.load("cuhk01", root)
    assert len(table) == 3_884 and table.person_id.nunique() == 971
