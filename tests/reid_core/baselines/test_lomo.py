from fractions import Fraction
from math import floor, log

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from reid_core import files
from reid_core.baselines import lomo


def people(n=2, height=128, width=48, seed=0):
    """Smooth random colour fields with a little noise: gray levels near one another, as in photographs."""
    random = np.random.RandomState(seed)
    smooth = gaussian_filter(random.rand(n, height, width, 3), (0, 6, 6, 0))
    smooth = (smooth - smooth.min()) / (smooth.max() - smooth.min()) * 230
    return (smooth + random.rand(n, height, width, 3) * 25).astype(np.uint8)


# --- the oracle: LOMO pixel by pixel and window by window, as the paper tells it ---


def oracle_hsv_bins(r, g, b):
    r, g, b = (Fraction(int(c), 255) for c in (r, g, b))
    top, low = max(r, g, b), min(r, g, b)
    if top == low:
        hue = Fraction(0)
    elif top == r:
        hue = (g - b) / (top - low) % 6
    elif top == g:
        hue = (b - r) / (top - low) + 2
    else:
        hue = (r - g) / (top - low) + 4
    saturation = (top - low) / top if top else Fraction(0)
    return [min(floor(8 * x), 7) for x in (hue / 6, saturation, top)]


def oracle_siltp(gray, y, x, radius):
    height, width = len(gray), len(gray[0])
    code = 0
    for power, (dy, dx) in enumerate([(0, 1), (-1, 0), (0, -1), (1, 0)]):
        ny = min(max(y + dy * radius, 0), height - 1)
        nx = min(max(x + dx * radius, 0), width - 1)
        if gray[ny][nx] < Fraction(7, 10) * gray[y][x]:
            code += 3**power
        elif gray[ny][nx] > Fraction(13, 10) * gray[y][x]:
            code += 2 * 3**power
    return code


def oracle_block(code_maps, bins):
    block = []
    for codes in code_maps:
        height, width = len(codes), len(codes[0])
        for top in range(0, height - 9, 5):
            largest = [0] * bins
            for left in range(0, width - 9, 5):
                histogram = [0] * bins
                for y in range(top, top + 10):
                    for x in range(left, left + 10):
                        histogram[codes[y][x]] += 1
                largest = [max(a, b) for a, b in zip(largest, histogram, strict=True)]
            block += [log(1 + n) for n in largest]
    norm = sum(value**2 for value in block) ** 0.5
    return [value / norm for value in block]


def oracle_lomo(pixels):
    hsv = [[oracle_hsv_bins(*rgb) for rgb in row] for row in pixels]
    weights = (0.2989, 0.5870, 0.1140)
    gray = [[Fraction(round(sum(w * int(c) for w, c in zip(weights, p, strict=True)))) for p in r] for r in pixels]
    colour, texture = [], {3: [], 5: []}
    for _ in range(3):
        colour.append([[v * 64 + s * 8 + h for h, s, v in row] for row in hsv])
        for radius, maps in texture.items():
            maps.append([[oracle_siltp(gray, y, x, radius) for x in range(len(gray[0]))] for y in range(len(gray))])
        quads = [
            [
                ((2 * y, 2 * x), (2 * y, 2 * x + 1), (2 * y + 1, 2 * x), (2 * y + 1, 2 * x + 1))
                for x in range(len(gray[0]) // 2)
            ]
            for y in range(len(gray) // 2)
        ]
        hsv = [[[sum(hsv[y][x][c] for y, x in quad) // 4 for c in range(3)] for quad in row] for row in quads]
        gray = [[sum(gray[y][x] for y, x in quad) / 4 for quad in row] for row in quads]
    return np.array(oracle_block(colour, 512) + oracle_block(texture[3], 81) + oracle_block(texture[5], 81))


def test_equals_the_pixel_by_pixel_oracle():
    images = people(2)
    features = lomo.extract(images, retinex=False, progress=False)
    assert features.shape == (2, 26960) and features.dtype == np.float32
    for image, feature in zip(images, features, strict=True):
        np.testing.assert_allclose(feature, oracle_lomo(image), rtol=2e-6, atol=1e-9)


def test_hsv_bins_of_random_and_of_extreme_colours_equal_the_exact_ones():
    colours = np.random.RandomState(1).randint(0, 256, (3000, 3), dtype=np.uint8)
    corners = np.array(np.meshgrid(*[[0, 1, 32, 64, 128, 255]] * 3)).reshape(3, -1).T.astype(np.uint8)
    for colour in np.concatenate([colours, corners]):
        assert lomo.hsv_bins(colour).tolist() == oracle_hsv_bins(*colour)


def test_retinex_equals_the_formula_with_an_independent_blur():
    image = people(1)[0]
    light = image.astype(float) + 1
    reflectance = (
        sum(
            np.log(light) - np.log(gaussian_filter(light, (sigma, sigma, 0), mode="nearest", truncate=3))
            for sigma in (5, 20)
        )
        / 2
    )
    reflectance *= np.log(125 * light / light.sum(axis=-1, keepdims=True))
    low, high = reflectance.mean() - 2 * reflectance.std(), reflectance.mean() + 2 * reflectance.std()
    expected = np.clip((reflectance - low) / (high - low), 0, 1) * 255
    assert np.abs(lomo.multiscale_retinex(image[None])[0] - expected).max() < 0.51


def test_retinex_of_a_flat_image_is_flat_and_brightness_barely_matters():
    assert np.ptp(lomo.multiscale_retinex(np.full((1, 128, 48, 3), 90, np.uint8))) <= 1  # rounding
    image = people(1) // 2 + 20
    half = lomo.multiscale_retinex(image // 2).astype(int)
    assert np.abs(half - lomo.multiscale_retinex(image)).mean() < 0.15 * np.abs(image // 2 - image.astype(int)).mean()


def test_toy_one_colour():
    """A flat image puts all 100 pixels of every window in one bin: 40 equal entries in each block."""
    feature = lomo.extract(np.full((1, 128, 48, 3), (200, 30, 90), np.uint8), retinex=False, progress=False)[0]
    for block in np.split(feature, [512 * 40, (512 + 81) * 40]):
        assert np.count_nonzero(block) == 40
        np.testing.assert_allclose(block[block > 0], 40**-0.5, rtol=1e-6)


def test_moving_sideways_changes_nothing():
    """20 pixels are whole steps (5, 2.5 x 2, 5 / 4 x 4) at every level; the scene is wide enough for all halos."""
    scene = np.full((1, 128, 240, 3), 100, np.uint8)
    scene[:, 30:100, 100:124] = people(1, 70, 24)
    moved = np.roll(scene, 20, axis=2)
    features = lomo.extract(np.concatenate([scene, moved]), retinex=False, width=240, progress=False)
    np.testing.assert_array_equal(features[0], features[1])
    far = np.roll(scene, 20, axis=1)
    assert not np.array_equal(lomo.extract(far, retinex=False, width=240, progress=False)[0], features[0])


def test_scaling_brightness_leaves_siltp_unchanged():
    gray = np.random.RandomState(2).randint(1, 80, (3, 40, 30))
    for radius in (3, 5):
        np.testing.assert_array_equal(lomo.siltp(3 * gray, radius), lomo.siltp(gray, radius))
    image = np.repeat(people(1)[..., :1] // 3, 3, axis=-1)
    dark, bright = lomo.extract(np.concatenate([image, 3 * image]), retinex=False, progress=False)
    np.testing.assert_array_equal(dark[512 * 40 :], bright[512 * 40 :])


def test_batches_do_not_matter_and_same_input_same_bits():
    images = people(35)
    features = lomo.extract(images, progress=False)
    np.testing.assert_array_equal(lomo.extract(images[33:], progress=False), features[33:])
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 3**0.5, rtol=1e-5)


def test_feature_file_holds_the_same_and_leaves_no_litter(tmp_path):
    images = people(3)
    killed = f".other.npy.{files._HOST}.{files._BOOT}.999999999-abcdefgh"  # a temporary of a process that is gone
    (tmp_path / "deep" / killed).mkdir(parents=True)
    stored = lomo.extract(images, path=tmp_path / "deep" / "lomo.npy", progress=False)
    assert isinstance(stored, np.memmap) and not stored.flags.writeable
    np.testing.assert_array_equal(stored, lomo.extract(images, progress=False))
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["lomo.npy"]


def test_failing_midway_leaves_no_feature_file(tmp_path):
    Image.fromarray(people(1)[0]).save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"")
    with pytest.raises(ValueError, match="bad.png"):
        lomo.extract([tmp_path / "good.png", tmp_path / "bad.png"], path=tmp_path / "out" / "x.npy", progress=False)
    assert list((tmp_path / "out").iterdir()) == []


def test_too_small_for_the_pyramid():
    with pytest.raises(ValueError, match="128x43 pixels are too few for LOMO.*at least 44"):
        lomo.extract(people(1), width=43, progress=False)
    assert lomo.extract(people(1), width=44, progress=False).shape == (1, lomo.dimension(128, 44))


def test_feature_file_must_be_npy(tmp_path):
    with pytest.raises(ValueError, match="must end in .npy"):
        lomo.extract(people(1), path=tmp_path / "lomo.h5", progress=False)
