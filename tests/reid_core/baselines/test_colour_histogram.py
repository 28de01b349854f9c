import numpy as np
import pytest

from reid_core.baselines.colour_histogram import extract


def random_images(n=5, seed=0):
    return np.random.RandomState(seed).randint(0, 256, (n, 128, 64, 3), dtype=np.uint8)


def test_toy_half_red_half_blue():
    image = np.zeros((1, 128, 64, 3), np.uint8)
    image[:, :64, :, 0] = 255
    image[:, 64:, :, 2] = 255
    feature = extract(image, bins=2, progress=False)[0]
    assert feature == pytest.approx([0, 0.5**0.5, 0, 0, 0.5**0.5, 0, 0, 0])


def test_equals_a_loop_over_pixels():
    images, bins = random_images(2), 4
    expected = np.zeros((2, bins, bins, bins))
    for n, image in enumerate(images):
        for r, g, b in image.reshape(-1, 3):
            expected[n, int(r) * bins // 256, int(g) * bins // 256, int(b) * bins // 256] += 1
    expected = np.sqrt(expected.reshape(2, -1) / (128 * 64))
    np.testing.assert_allclose(extract(images, bins=bins, progress=False), expected, rtol=1e-6)


def test_unit_length_and_blind_to_where_a_pixel_lies():
    images = random_images()
    features = extract(images, progress=False)
    assert features.dtype == np.float32 and features.shape == (5, 512)
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, rtol=1e-6)
    np.testing.assert_array_equal(extract(images[:, ::-1, ::-1], progress=False), features)


def test_same_input_same_bits():
    np.testing.assert_array_equal(extract(random_images(), progress=False), extract(random_images(), progress=False))


@pytest.mark.parametrize("bins", [1, 33])
def test_bins_outside_their_range(bins):
    with pytest.raises(ValueError, match="between 2 and 32"):
        extract(random_images(1), bins=bins, progress=False)
