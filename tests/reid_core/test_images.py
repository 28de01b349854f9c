import io
import re
import struct
import subprocess
import sys
import warnings
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageOps

from reid_core import images
from reid_core.images import Undecodable, batches, count, rgb


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


def gather(source, height=20, width=10, **options):
    return np.concatenate([p for _, p in batches(source, height, width, **options)])


@pytest.mark.parametrize("batch_size", [1, 3, 7, 64])
def test_table_paths_and_array_give_the_same_pixels_in_order(pixels, paths, batch_size):
    table = pd.DataFrame({"image_path": [str(path) for path in paths]})
    for source in (table, paths, pixels):
        assert count(source) == 7
        np.testing.assert_array_equal(gather(source, batch_size=batch_size), pixels)


def test_rows_are_consecutive_and_cover_all(pixels):
    rows = [rows for rows, _ in batches(pixels, 20, 10, batch_size=3)]
    assert np.concatenate([np.arange(7)[r] for r in rows]).tolist() == list(range(7))


def test_other_sizes_are_resized_and_flat_colour_survives(tmp_path):
    Image.new("RGB", (31, 77), (10, 200, 30)).save(tmp_path / "flat.png")
    resized = gather([tmp_path / "flat.png"], 128, 48)
    assert resized.shape == (1, 128, 48, 3)
    assert (resized == (10, 200, 30)).all()


def test_stopping_early_leaves_no_error(pixels):
    generator = batches(pixels, 20, 10, batch_size=1)
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
    "source, message",
    [
        (pd.DataFrame({"path": ["a"]}), "no column image_path"),
        (np.zeros((2, 8, 8, 3)), "must be uint8"),
        (np.zeros((8, 8, 3), np.uint8), "must be uint8"),
        ([], "no images"),
        ("one.png", "not the one path"),
    ],
)
def test_wrong_kinds_of_input_are_named(source, message):
    with pytest.raises(ValueError, match=message):
        gather(source)


def test_sizes_must_be_positive(pixels):
    with pytest.raises(ValueError, match="must be positive"):
        gather(pixels, 0, 10)


# A scene that is bright above, dark below, brighter to the right: all levels, and no symmetry.
SCENE = (255 - 2 * np.arange(100)[:, None] + np.arange(50)[None]).clip(0, 255).astype(np.uint8)


def written(array, form, **options) -> bytes:
    stream = io.BytesIO()
    image = array if isinstance(array, Image.Image) else Image.fromarray(array)
    image.save(stream, form, **options)
    return stream.getvalue()


def png16(array) -> bytes:
    """A PNG of 16 bits a channel, which Pillow does not write in colour: (h, w, channels) uint16."""

    def chunk(kind, content):
        size, check = struct.pack(">I", len(content)), struct.pack(">I", zlib.crc32(kind + content))
        return size + kind + content + check

    height, width, channels = array.shape
    header = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*one) for one in chunks)


DEEP = SCENE.astype(np.uint16) * 256 + np.uint16(91)  # the lower bits say something else
WIDE = {
    "png": written(DEEP, "PNG"),
    "little tiff": written(DEEP, "TIFF"),
    "big tiff": written(DEEP.astype(">u2"), "TIFF"),
    "packed tiff": written(DEEP, "TIFF", compression="tiff_lzw"),
    "tiff, white is 0": written(65535 - DEEP, "TIFF", tiffinfo={262: 0}),
    "pgm": written(DEEP, "PPM"),
    "pgm of 12 bits": b"P5 50 100 4095 " + (SCENE.astype(np.uint16) * 16 + 7).astype(">u2").tobytes(),
    "jpeg 2000": written(DEEP, "JPEG2000"),
    "gray png by hand": png16(DEEP[..., None]),
    "colour png": png16(np.repeat(DEEP[..., None], 3, 2)),
    "gray and transparency": png16(np.stack([DEEP, np.full_like(DEEP, 65535)], 2)),
    "colour and transparency": png16(np.stack([DEEP] * 3 + [np.full_like(DEEP, 65535)], 2)),
}


@pytest.mark.parametrize("form", WIDE)
def test_pictures_of_16_bits_are_those_of_their_upper_8(form):
    picture = rgb(WIDE[form])
    assert picture.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(picture), np.repeat(SCENE[..., None], 3, 2))


GRAY = SCENE.astype(np.uint16)
NARROW = {
    "12 in 16 bits": written(GRAY * 16, "PNG"),
    "12 in 16 bits, all of them": written(np.arange(4096, dtype=np.uint16).reshape(64, 64), "PNG"),
    "8 in 16 bits": written(GRAY, "TIFF"),
    "14 bits around the middle": written(GRAY * 8 + np.uint16(7000), "TIFF"),
    "12 in 16 bits of colour": png16(np.repeat(GRAY[..., None] * 16, 3, 2)),
}


@pytest.mark.parametrize("form", NARROW)
def test_16_bits_with_hardly_a_level_of_8_are_refused(form):
    with pytest.raises(Undecodable, match=r"deep.png .*of 256 levels would be left\); scale them to the whole"):
        rgb(NARROW[form], "deep.png")


def test_a_uniform_picture_of_16_bits_loses_nothing():
    assert rgb(written(np.full((9, 9), 40_000, np.uint16), "PNG")).getpixel((4, 4)) == (156,) * 3


@pytest.mark.parametrize(
    "array, values",
    [(SCENE.astype(np.int32) * 2**22, "32-bit integers"), (SCENE.astype(np.float32) / 255, "floats"),
     (SCENE.astype(np.int16) * 100, "32-bit integers")],
)  # fmt: skip
def test_values_without_a_known_range_are_refused_by_name(array, values):
    content = written(array.astype(np.int32) if array.dtype == np.int16 else array, "TIFF")
    with pytest.raises(Undecodable, match=f"a.tif cannot be decoded .it holds {values}.*save it with 8 or 16 bits"):
        rgb(content, "a.tif")


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", "MPO"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_upright_once(form, orientation):
    exif = Image.Exif()
    exif[274] = orientation
    content = written(Image.fromarray(SCENE).convert("RGB"), form, exif=exif)
    with Image.open(io.BytesIO(content)) as opened:
        expected = np.asarray(ImageOps.exif_transpose(opened).convert("RGB"))
    assert expected.shape[:2] == ((50, 100) if orientation > 4 else (100, 50))
    np.testing.assert_array_equal(np.asarray(rgb(content)), expected)


def test_a_damaged_exif_block_says_nothing_of_the_pixels():
    plain = Image.fromarray(SCENE).convert("RGB")
    for block in (b"Exif\0\0not a tiff", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0"):
        np.testing.assert_array_equal(np.asarray(rgb(written(plain, "PNG", exif=block))), np.asarray(plain))


@pytest.mark.parametrize(
    "mode, form",
    [("1", "PNG"), ("L", "PNG"), ("P", "PNG"), ("P", "GIF"), ("LA", "PNG"), ("RGBA", "PNG"), ("CMYK", "TIFF"),
     ("CMYK", "JPEG"), ("YCbCr", "JPEG"), ("RGB", "BMP"), ("RGB", "PNG"), ("RGB", "JPEG")],
)  # fmt: skip
def test_pictures_of_8_bits_are_as_pillow_converts_them(mode, form):
    content = written(Image.fromarray(SCENE).convert("RGB").convert(mode), form)
    with Image.open(io.BytesIO(content)) as opened:
        expected = np.asarray(opened.convert("RGB"))
    np.testing.assert_array_equal(np.asarray(rgb(content)), expected)


def test_a_small_look_at_a_jpeg_is_at_least_that_large():
    content = written(Image.fromarray(SCENE.repeat(8, 0).repeat(8, 1)), "JPEG")
    assert rgb(content).size == (400, 800) and rgb(content, at_least=(50, 100)).size == (50, 100)


def frames(form, **options):
    others = [Image.new("RGB", (20, 20), colour) for colour in ("red", "green", "blue")]
    return written(others[0], form, save_all=True, append_images=others[1:], **options)


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP", "TIFF"])
def test_animations_and_pages_are_refused_by_name(form):
    message = "moving cannot be decoded .it holds 3 frames or pages.; save the one"
    with pytest.raises(Undecodable, match=message):
        rgb(frames(form), "moving")


def test_a_phones_second_view_is_passed_over():
    assert rgb(frames("MPO", quality=100)).getpixel((5, 5))[0] > 250


@pytest.mark.parametrize("limit, raised", [(4999, "50 x 100|5000 pixels"), (2000, "5000 pixels")])
@pytest.mark.parametrize("strict", [False, True])
def test_a_picture_beyond_pillows_limit_is_named(monkeypatch, limit, raised, strict):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with warnings.catch_warnings():
        warnings.simplefilter("error" if strict else "ignore")
        with pytest.raises(Undecodable, match=rf"wide.png cannot be decoded .*({raised}).*scale it down"):
            rgb(written(SCENE, "PNG"), "wide.png")


def test_the_limit_can_be_raised_and_taken_away(monkeypatch):
    for limit in (5000, None):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        assert rgb(written(SCENE, "PNG")).size == (50, 100)


LARGE = SCENE.repeat(4, 0).repeat(4, 1)


def cut(content, share):
    return content[: int(len(content) * share)]


@pytest.mark.parametrize(
    "content, reason",
    [
        (b"", "the file is empty"),
        (b"<html>", "not an image"),
        (cut(written(SCENE, "PNG"), 0.1), ""),
        *((cut(written(LARGE, form), 0.7), "") for form in ("PNG", "JPEG", "BMP", "TIFF", "WEBP")),
        (written(SCENE, "PNG").replace(b"IDAT", b"IDAX"), ""),
        (b"GIF89a", ""),
    ],
)  # fmt: skip
def test_damage_is_named(tmp_path, content, reason):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(Undecodable, match=r"a\.png cannot be decoded \(.+\); put back a whole copy") as error:
        rgb(tmp_path / "a.png")
    assert reason in error.value.reason and "a.png" not in error.value.reason


def test_no_other_place_of_the_kit_opens_pictures():
    root = Path(images.__file__).parents[1]
    found = [p for package in ("reid_core", "reproduction") for p in (root / package).rglob("*.py")
             if re.search(r"Image\.open|\bimread\b", p.read_text(encoding="utf-8"))]  # fmt: skip
    assert found == [Path(images.__file__)]


def test_looking_at_tables_loads_neither_pillow_nor_torch():
    code = "import sys; from reid_core import datasets; print({'PIL', 'torch', 'h5py'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
