from math import atan, floor, log, pi

import numpy as np
import pytest

from reid_core.baselines import scsp_features
from reid_core.baselines.scsp_features import RegionFeatures


def images(n=2, seed=0):
    return np.random.RandomState(seed).randint(0, 256, (n, 128, 48, 3), dtype=np.uint8)


def oracle_lab(r, g, b):
    r, g, b = r / 255, g / 255, b / 255
    x = (0.412453 * r + 0.357580 * g + 0.180423 * b) / 0.950456
    y = 0.212671 * r + 0.715160 * g + 0.072169 * b
    z = (0.019334 * r + 0.119193 * g + 0.950227 * b) / 1.088754
    fx, fy, fz = (t ** (1 / 3) if t > 0.008856 else 7.787 * t + 16 / 116 for t in (x, y, z))
    lightness = 116 * y ** (1 / 3) - 16 if y > 0.008856 else 903.3 * y
    return lightness / 100, (500 * (fx - fy) + 110) / 220, (200 * (fy - fz) + 110) / 220


def test_lab_equals_the_formula():
    image = images(1)[0, :4]
    np.testing.assert_allclose(
        scsp_features.lab_unit(image), [[oracle_lab(*map(int, p)) for p in row] for row in image], rtol=1e-9
    )


def test_toy_colours_in_lab():
    white, black = scsp_features.lab_unit(np.array([[255] * 3, [0] * 3], np.uint8))
    assert white == pytest.approx([1, 0.5, 0.5], abs=1e-3) and black == pytest.approx([0, 0.5, 0.5], abs=1e-9)


def test_toy_orientations():
    """A vertical edge has gradients along x (0 degrees: the fifth bin), a horizontal one along y (the first bin where
    it brightens downwards, the last where it darkens)."""
    vertical = np.zeros((1, 9, 9), int)
    vertical[:, :, 5:] = 7
    inner = (slice(None), slice(1, -1), slice(1, -1))
    assert set(scsp_features.orientation(vertical)[inner].ravel()) == {4}
    horizontal = vertical.swapaxes(1, 2)
    assert set(scsp_features.orientation(horizontal)[inner][:, 3:5].ravel()) == {0}
    assert set(scsp_features.orientation(7 - horizontal)[inner][:, 3:5].ravel()) == {7}


def test_patches_equal_loops_over_pixels():
    image = images(1)
    found = scsp_features.describe(image)
    pixels, gray = image[0].astype(int), np.rint(image[0] @ [0.2989, 0.5870, 0.1140]).astype(int)
    top, left = 4 * 7, 8 * 2
    lab = [[0] * 512, [0] * 48]
    angles = [0] * 8
    for y in range(top, top + 8):
        for x in range(left, left + 16):
            a, b, c = oracle_lab(*pixels[y, x])
            joint = [min(max(floor(v * 8), 0), 7) for v in (a, b, c)]
            lab[0][joint[2] * 64 + joint[1] * 8 + joint[0]] += 1
            for channel, v in enumerate((a, b, c)):
                lab[1][16 * channel + min(max(floor(v * 16), 0), 15)] += 1
            across, down = gray[y, x + 1] - gray[y, x - 1], gray[y + 1, x] - gray[y - 1, x]
            angle = atan(down / (across or -1e-15))
            angles[min(floor((angle / pi + 0.5) * 8), 7)] += 1
    for name, expected in (("lab joint", lab[0]), ("lab", lab[1]), ("orientation", angles)):
        np.testing.assert_allclose(found[name][0, 7, 2], [log(1 + n) for n in expected], rtol=1e-6)
    assert {name: values.shape for name, values in found.items()} == {
        name: (1, 31, 5, size) for name, size in scsp_features.SIZES.items()
    }


def test_every_histogram_counts_the_whole_patch():
    for name, values in scsp_features.describe(images()).items():
        parts = {"hsv": 3, "lab": 3, "siltp": 2}.get(name, 1)
        np.testing.assert_allclose(np.expm1(values).sum(axis=-1), 128 * parts, rtol=1e-5)


def test_whitened_regions_of_the_training_images():
    features = RegionFeatures(n_components=6).fit(images(12))
    X = features.transform(images(12))
    assert X.shape == (12, 20, 6) and X.dtype == np.float32
    for layer in range(20):
        np.testing.assert_allclose(np.cov(X[:, layer].T), np.eye(6), atol=0.02)
        np.testing.assert_allclose(X[:, layer].mean(axis=0), 0, atol=1e-3)


def test_stripes_do_not_see_other_stripes():
    features = RegionFeatures(n_components=4).fit(images(8))
    image = images(1, seed=3)
    changed = image.copy()
    changed[:, 60:] = 255 - changed[:, 60:]  # below the first stripe (rows 0-39) with SILTP's halo of 5
    before, after = features.transform(np.concatenate([image, changed]))
    top = [5 * cue + 1 for cue in range(4)]
    np.testing.assert_allclose(before[top], after[top], atol=1e-5)
    assert not np.allclose(before[0], after[0], atol=1e-3)


def test_few_images_give_fewer_components_and_many_are_sampled():
    assert RegionFeatures().fit(images(5)).n_components_ == 4
    first, second, other = (RegionFeatures(n_images=4, random_state=s).fit(images(9)).pca_[0].mean_ for s in (0, 0, 1))
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, other)


def test_same_input_same_bits():
    first, second = (RegionFeatures(n_components=5).fit(images(9)).transform(images(4, seed=1)) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_layer_weights():
    assert scsp_features.layer_weights(1.1).tolist() == [1.1, 1, 1, 1, 1] * 4


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="three or more training images"):
        RegionFeatures().fit(images(2))
    with pytest.raises(ValueError, match="n_images must be at least 3"):
        RegionFeatures(n_images=2)
    with pytest.raises(ValueError, match="not been fitted"):
        RegionFeatures().transform(images(2))
