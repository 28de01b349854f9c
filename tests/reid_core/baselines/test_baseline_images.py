import numpy as np
import pandas as pd
import pytest
from PIL import Image

from reid_core.baselines.images import batches, count


@pytest.fixture
def pixels():
    return np.random.RandomState(0).randint(0, 256, (7, 20, 10, 3), dtype=np.uint8)


@pytest.fixture
def paths(tmp_path, pixels):
    made = []
    for i, image in enumerate(pixels):
        made.append(tmp_path / f"{i}.png")
        Image.fromarray(image).save(made[-1])
    return made


def gather(images, height=20, width=10, **options):
    return np.concatenate([p for _, p in batches(images, height, width, progress=False, **options)])


@pytest.mark.parametrize("batch_size", [1, 3, 7, 64])
def test_table_paths_and_array_give_the_same_pixels_in_order(pixels, paths, batch_size):
    table = pd.DataFrame({"image_path": [str(path) for path in paths]})
    for images in (table, paths, pixels):
        assert count(images) == 7
        np.testing.assert_array_equal(gather(images, batch_size=batch_size), pixels)


def test_rows_are_consecutive_and_cover_all(pixels):
    rows = [rows for rows, _ in batches(pixels, 20, 10, batch_size=3, progress=False)]
    assert np.concatenate([np.arange(7)[r] for r in rows]).tolist() == list(range(7))


def test_other_sizes_are_resized_and_flat_colour_survives(tmp_path):
    Image.new("RGB", (31, 77), (10, 200, 30)).save(tmp_path / "flat.png")
    resized = gather([tmp_path / "flat.png"], 128, 48)
    assert resized.shape == (1, 128, 48, 3)
    assert (resized == (10, 200, 30)).all()


def test_stopping_early_leaves_no_error(pixels):
    generator = batches(pixels, 20, 10, batch_size=1, progress=False)
    next(generator)
    generator.close()
    assert next(generator, None) is None


def test_grey_and_transparent_files_become_rgb(tmp_path):
    Image.new("L", (10, 20), 7).save(tmp_path / "grey.png")
    Image.new("RGBA", (10, 20), (1, 2, 3, 255)).save(tmp_path / "alpha.png")
    first, second = gather([tmp_path / "grey.png", tmp_path / "alpha.png"])
    assert (first == 7).all() and (second == (1, 2, 3)).all()


def test_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="gone.png"):
        gather([tmp_path / "gone.png"])


def test_corrupt_file_is_named(tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"not an image")
    with pytest.raises(ValueError, match=r"broken.jpg cannot be decoded"):
        gather([tmp_path / "broken.jpg"])


def test_truncated_file_is_named(tmp_path, pixels):
    Image.fromarray(pixels[0]).resize((200, 400)).save(tmp_path / "cut.jpg")
    whole = (tmp_path / "cut.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"cut.jpg cannot be decoded"):
        gather([tmp_path / "cut.jpg"])


@pytest.mark.parametrize(
    "images, message",
    [
        (pd.DataFrame({"path": ["a"]}), "no column image_path"),
        (np.zeros((2, 8, 8, 3)), "must be uint8"),
        (np.zeros((8, 8, 3), np.uint8), "must be uint8"),
        ([], "no images"),
        ("one.png", "not the one path"),
    ],
)
def test_wrong_kinds_of_input_are_named(images, message):
    with pytest.raises(ValueError, match=message):
        gather(images)


def test_sizes_must_be_positive(pixels):
    with pytest.raises(ValueError, match="must be positive"):
        gather(pixels, 0, 10)
