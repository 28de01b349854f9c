"""The visual cues of SCSP in its regions (Chen, Yuan, Chen and Zheng, CVPR 2016, Section 5, and their release).

A 128x48 image is covered by 31 x 5 patches of 8x16 pixels, 4 apart down and 8 across. Each patch gives the logarithm of
one plus six histograms: HSV and LAB with 16 bins a channel apart, both jointly with 8x8x8, SILTP of radius 5 and 3,
and 8 gradient orientations. They make four cues of a colour and a texture each, in five regions: the whole image and
four overlapping stripes of 9 patch rows. Each part is brought to unit length; principal components whiten the two.

Where ours differs: the release (dapengchen123/SCSP) learns the components from training and test images together, ours
from (a random sample of) training images only. It resizes by bilinear, ours by bicubic interpolation. It has settings
for VIPeR alone; those for Market-1501 are not on record.
"""

import numpy as np

from reid_core.baselines import lomo, windows
from reid_core.baselines.checks import fitted
from reid_core.baselines.pca import PCA
from reid_core.images import Images, batches, count

HEIGHT, WIDTH = 128, 48
PATCH, STEP = (8, 16), (4, 8)
ORIENTATIONS = 8
CUES = (("hsv", "siltp"), ("hsv joint", "orientation"), ("lab joint", "siltp"), ("lab", "orientation"))
REGIONS = (slice(0, 31), slice(0, 9), slice(8, 17), slice(16, 25), slice(22, 31))
SIZES = {"hsv": 48, "lab": 48, "hsv joint": 512, "lab joint": 512, "siltp": 162, "orientation": ORIENTATIONS}
LAYERS = [(cue, rows) for cue in CUES for rows in REGIONS]


class RegionFeatures:
    """Whitened features of every cue in every region.

    Parameters
    ----------
    n_components : whitened dimensions of each cue and region; fewer if there are too few images.
    n_images : at most so many training images, drawn at random, teach the components.
    random_state : seed (int) of that draw.

    Learns `pca_`, a list of fitted `PCA`, cue by cue, each cue's whole image first, then its stripes; `n_components_`,
    the dimensions of each, the same for all.
    """

    def __init__(self, n_components=120, n_images=1500, random_state=0):
        if n_images < 3:
            raise ValueError(f"n_images must be at least 3 to learn principal components, not {n_images}.")
        self.n_components, self.n_images, self.random_state = n_components, n_images, random_state

    def fit(self, images: Images) -> "RegionFeatures":
        """Learn the components from training images: a table, paths or a uint8 array (n, h, w, 3).

        Raises ValueError for fewer than three images, and what `images.batches` raises."""
        total = count(images)
        if total < 3:
            raise ValueError(f"SCSP needs three or more training images to whiten its features, not {total}.")
        if total > self.n_images:
            rows = np.sort(np.random.RandomState(self.random_state).permutation(total)[: self.n_images])
            images = images.iloc[rows] if hasattr(images, "iloc") else [images[row] for row in rows]
        taken = batches(images, HEIGHT, WIDTH, batch_size=32, desc="SCSP components")
        described = [describe(pixels) for _, pixels in taken]
        patches = {name: np.concatenate([batch[name] for batch in described]) for name in SIZES}
        self.n_components_ = min(self.n_components, len(patches["hsv"]) - 1)
        self.pca_ = [PCA(self.n_components_, whiten=True).fit(_region(patches, *layer)) for layer in LAYERS]
        self.n_components_ = min(pca.components_.shape[1] for pca in self.pca_)
        return self

    def transform(self, images: Images) -> np.ndarray:
        """Whitened features (n, 20, n_components_) float32: 4 cues x (whole image, 4 stripes)."""
        fitted(self, "pca_")
        out = np.empty((count(images), len(self.pca_), self.n_components_), np.float32)
        for rows, pixels in batches(images, HEIGHT, WIDTH, batch_size=32, desc="SCSP features"):
            patches = describe(pixels)
            for layer, (pca, region) in enumerate(zip(self.pca_, LAYERS, strict=True)):
                out[rows, layer] = pca.transform(_region(patches, *region))[:, : self.n_components_]
        return out


def layer_weights(global_weight: float) -> np.ndarray:
    """Weight of each of the 20 layers: `global_weight` for whole images, 1 for stripes."""
    return np.tile([global_weight] + [1.0] * (len(REGIONS) - 1), len(CUES))


def describe(pixels: np.ndarray) -> dict[str, np.ndarray]:
    """Patch descriptors of uint8 RGB images (n, 128, 48, 3): {name: (n, 31, 5, bins) float32}."""
    gray = lomo.gray_level(pixels).astype(np.int32)
    lab = lab_unit(pixels)
    maps = {
        "hsv": (np.moveaxis(lomo.hsv_bins(pixels, 16), -1, 0), 16),
        "lab": (np.moveaxis(_quantised(lab, 16), -1, 0), 16),
        "hsv joint": (_jointly(lomo.hsv_bins(pixels, 8), 8), 8**3),
        "lab joint": (_jointly(_quantised(lab, 8), 8), 8**3),
        "siltp": ([lomo.siltp(gray, radius) for radius in (5, 3)], lomo.SILTP_CODES),
        "orientation": ([orientation(gray)], ORIENTATIONS),
    }
    out = {}
    for name, (code_maps, bins) in maps.items():
        histograms = [windows.counts(codes, bins, PATCH, STEP) for codes in code_maps]
        out[name] = np.log1p(np.concatenate(histograms, axis=-1).astype(np.float32))
    return out


def lab_unit(pixels: np.ndarray) -> np.ndarray:
    """CIELAB of uint8 RGB (..., 3), float64 L / 100, (a, b + 110) / 220; of D65 and linear RGB, as in the release."""
    to_xyz = np.array([[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]])
    xyz = pixels / 255 @ (to_xyz / np.array([[0.950456], [1.0], [1.088754]])).T
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    x, y, z = np.moveaxis(f, -1, 0)
    lightness = np.where(xyz[..., 1] > 0.008856, 116 * y - 16, 903.3 * xyz[..., 1])
    return np.stack([lightness / 100, (500 * (x - y) + 110) / 220, (200 * (y - z) + 110) / 220], axis=-1)


def orientation(gray: np.ndarray) -> np.ndarray:
    """Orientation 0..7 of the gradient (not its direction) of integer gray images (n, h, w), uint8.

    Central differences, zero outside the image; flat pixels count as 0 degrees. Each pixel counts once, whatever
    its gradient's length; one that is exactly vertical lies in the first bin if the image brightens downwards, else
    in the last. All as in the release.
    """
    padded = np.pad(gray, ((0, 0), (1, 1), (1, 1)))
    across = (padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]).astype(np.float64)
    down = padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]
    angle = np.arctan(down / np.where(across == 0, -1e-15, across))
    return np.minimum((angle / np.pi + 0.5) * ORIENTATIONS, ORIENTATIONS - 1).astype(np.uint8)


def _quantised(unit: np.ndarray, bins: int) -> np.ndarray:
    return np.clip(unit * bins, 0, bins - 1).astype(np.uint8)


def _jointly(channels: np.ndarray, bins: int) -> list[np.ndarray]:
    a, b, c = np.moveaxis(channels.astype(np.uint16), -1, 0)
    return [(c * bins + b) * bins + a]


def _region(patches: dict[str, np.ndarray], cue: tuple[str, str], rows: slice) -> np.ndarray:
    """One cue in one region: its two parts, each of unit length, side by side (n, d)."""
    parts = (patches[name][:, rows].reshape(len(patches[name]), -1) for name in cue)
    return np.concatenate([windows.unit(part) for part in parts], axis=1)
