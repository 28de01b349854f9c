"""Near-duplicates between training and test images.

CUHK01 and CUHK03 were taken on one campus, and users report images that are in both; the two kinds of boxes of CUHK03
are cut from the same frames. An image of a test set that was trained on, newly cut or encoded, flatters the score. The
paper does not say whether this was looked at. Every training image is compared with every query and gallery image:

1. a 64-bit perceptual hash (signs of the low frequencies of a small gray copy, about their median) leaves the pairs
   that differ in few bits;
2. the normalised correlation of small gray copies, at the best of a grid of crops of either, leaves few of those;
3. the normalised correlation of colour copies at that crop confirms.
"""

import functools
import itertools
import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
from PIL.Image import Resampling

from reid_core import images, machine
from reid_core.datasets import cache
from reid_core.datasets.table import CAMERA, DATASET, PATH, PERSON, SUBSET, TRAIN
from reid_core.progress import bar, shown

HEIGHT, WIDTH = 32, 16
ANY = "any"
MAX_BITS = 20  # of 64; copies cut up to 10% differently differ by 14 bits in the median, other people by 28
MIN_CORRELATION = 0.9
COLUMNS = {
    "train_set": object, "train_person": np.int64, "train_camera": np.int64, "train_path": object,
    "test_set": object, "test_subset": object, "test_person": np.int64, "test_camera": np.int64,
    "test_path": object, "bits": np.uint8, "correlation": np.float32, "matches": np.int64,
}  # fmt: skip
_BEST_FIRST = {"by": ["correlation", "bits", "train_path", "test_path"], "ascending": [False, True, True, True]}
_SHRINK = 2
_MIN_UNALIGNED, _MIN_ALIGNED = 0.55, 0.8
_GRAY = np.float32([0.299, 0.587, 0.114])
_BLOCK = 64


def find(
    tables: Mapping[str, pd.DataFrame], *, max_bits: int = MAX_BITS, min_correlation: float = MIN_CORRELATION,
    per_image: int = 3, progress: bool = True,
) -> pd.DataFrame:  # fmt: skip
    """Pairs of a training image and a query or gallery image that show the same picture.

    Parameters
    ----------
    tables : name to image table; the training rows of each are compared with the query and gallery rows of each.
    max_bits : pairs whose hashes differ in more bits (of 64) are not looked at.
    min_correlation : smallest confirmed correlation of the colour copies, in [-1, 1].
    per_image : of more matches of one image in one set, the most alike are listed. Every training image that has a
        match is listed, and so is every test image.
    progress : show how far it is.

    Returns one row a pair, the most alike first, with the columns of :data:`COLUMNS`; `matches` is the number of test
    images found for the training image, listed or not. Empty where there is nothing to compare.
    """
    everything = pd.concat([table.assign(set=name) for name, table in tables.items()], ignore_index=True)
    everything = everything[["set", SUBSET, PERSON, CAMERA, PATH]]
    train, test = (everything[(everything[SUBSET] == TRAIN) == learnt] for learnt in (True, False))
    if train.empty or test.empty:
        return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in COLUMNS.items()})
    paths = pd.unique(pd.concat([train[PATH], test[PATH]]))
    with shown(progress):
        copies = thumbnails(paths)
        picture_of, _ = pd.factorize(np.array([copy.tobytes() for copy in copies], dtype=object))
        pictures = copies[np.unique(picture_of, return_index=True)[1]]
        position = pd.Series(picture_of, index=paths)
        train_picture, test_picture = position[train[PATH]].to_numpy(), position[test[PATH]].to_numpy()
        pairs = _compare(pictures, np.unique(train_picture), np.unique(test_picture), max_bits, min_correlation)
    return _rows(pairs, _named(train, "train", train_picture), _named(test, "test", test_picture), per_image)


def audit(sets: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """:func:`find` between training and test images of all `sets`, remembered until a file changes."""
    return cache.remembered(sets.values(), [list(sets), "defaults"], __file__, lambda: find(sets))


def leave_out(table: pd.DataFrame, pairs: pd.DataFrame) -> pd.DataFrame:
    """The table without the training images that :func:`find` found; people who lose all images go with them.
    Raises ValueError if that were all training images of the table."""
    training = table[SUBSET] == TRAIN
    found = training & table[PATH].isin(pairs["train_path"])
    if found.any() and found.sum() == training.sum():
        every = f"All {found.sum():,} training images of {table.loc[found, DATASET].iloc[0]}"
        look = "Look at the contact sheet of notebook 01_datasets: is the same set there twice?"
        why = f"{every} are near-duplicates of test images, so none would be left to train on. {look}"
        raise ValueError(f"{why} near_duplicates: keep trains on all of them.")
    return table[~found].reset_index(drop=True)


def counts(tables: Mapping[str, pd.DataFrame], pairs: pd.DataFrame) -> pd.DataFrame:
    """How many training images have a near-duplicate in a test set, without naming any.

    Returns one row per training set and test set, then one with `test_set` "any", of: `training images` and `people` of
    the training set, `images found`, `people found` (who have such an image), `people lost` (who have no other),
    `test images found`."""
    rows = []
    for name, table in tables.items():
        train = table[table[SUBSET] == TRAIN]
        of_set = pairs[pairs["train_set"] == name]
        tested = [other for other, rest in tables.items() if (rest[SUBSET] != TRAIN).any()]
        for test_set in (*tested, ANY) if len(train) else ():
            chosen = of_set if test_set == ANY else of_set[of_set["test_set"] == test_set]
            found = train[PATH].isin(chosen["train_path"])
            people, left = train[PERSON].nunique(), train.loc[~found, PERSON].nunique()
            rows.append({
                "train_set": name, "test_set": test_set, "training images": len(train), "people": people,
                "images found": int(found.sum()), "people found": train.loc[found, PERSON].nunique(),
                "people lost": people - left, "test images found": chosen["test_path"].nunique(),
            })  # fmt: skip
    return pd.DataFrame(rows)


def thumbnails(paths, *, progress: bool = True) -> np.ndarray:
    """Small colour copies of images, (N, 32, 16, 3) uint8; each image is decoded once, in parallel."""
    copies = np.empty((len(paths), HEIGHT, WIDTH, 3), np.uint8)

    def copy(number: int) -> None:
        picture = images.rgb(paths[number], at_least=(2 * WIDTH, 2 * HEIGHT))
        copies[number] = np.asarray(picture.resize((WIDTH, HEIGHT), Resampling.BOX))

    with ThreadPoolExecutor(machine.cores()) as pool, shown(progress):
        done = pool.map(copy, range(len(paths)))
        for _ in bar(done, total=len(paths), desc="Near-duplicates: reading", unit="image"):
            pass
    return copies


def perceptual_hash(copies: np.ndarray) -> np.ndarray:
    """(N,) uint64 hashes of (N, 32, 16, 3) uint8 copies: which low frequencies of the gray copy exceed their median."""
    from scipy.fft import dctn  # 0.1 seconds, which the steps of a workflow do without

    frequencies = dctn(copies @ _GRAY, axes=(1, 2))[:, :9, :8].reshape(len(copies), -1)[:, 1:65]
    bits = frequencies > np.median(frequencies, axis=1, keepdims=True)
    return np.packbits(bits, axis=1).view(np.uint64).ravel()


def _compare(
    pictures: np.ndarray, train: np.ndarray, test: np.ndarray, max_bits: int, min_correlation: float
) -> pd.DataFrame:
    """Confirmed pairs of pictures: columns train, test (indices), bits, correlation.

    `pictures`: (N, 32, 16, 3) uint8, each once; `train`, `test`: (t,) and (q,) int64, which of them are compared."""
    hashes = perceptual_hash(pictures)
    gray = (pictures @ _GRAY).reshape(-1, HEIGHT // _SHRINK, _SHRINK, WIDTH // _SHRINK, _SHRINK).mean((2, 4))
    unit = _normalised(gray)

    def block(start: int) -> tuple[np.ndarray, ...]:
        """Pairs of a block of training pictures: train, test (indices), bits, correlation, each (pairs,)."""
        rows = train[start : start + _BLOCK]
        bits = np.bitwise_count(hashes[rows, None] ^ hashes[test])
        near = np.nonzero(bits <= max_bits)
        first, second, bits = rows[near[0]], test[near[1]], bits[near]
        alike = (np.einsum("nd,nd->n", unit[first], unit[second]) >= _MIN_UNALIGNED) | (first == second)
        first, second, bits = first[alike], second[alike], bits[alike]
        correlation = _confirm(pictures, gray, first, second)
        sure = correlation >= min_correlation
        return first[sure], second[sure], bits[sure], correlation[sure]

    with ThreadPoolExecutor(machine.cores()) as pool:
        starts = range(0, len(train), _BLOCK)
        blocks = pool.map(block, starts)
        found = list(bar(blocks, total=len(starts), desc="Near-duplicates: comparing", unit="block"))
    columns = map(np.concatenate, zip(*found, strict=True))
    return pd.DataFrame(dict(zip(("train", "test", "bits", "correlation"), columns, strict=True)))


def _confirm(pictures: np.ndarray, gray: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(n,) float32 colour correlation of picture pairs at their best crop; -1 where the gray copies are too unlike.

    `pictures`: (N, 32, 16, 3) uint8; `gray`: (N, 16, 8) float32, half as large; `first`, `second`: (n,) int64."""
    correlation = np.full(len(first), -1.0, np.float32)
    coarse, _ = _best_crop(gray[first], gray[second], _COARSE)
    likely = np.flatnonzero(coarse >= _MIN_ALIGNED)
    _, crop = _best_crop(gray[first[likely]], gray[second[likely]], _FINE)
    for number in np.unique(crop):
        chosen = likely[crop == number]
        cut, whole = (first, second) if number < len(_FINE) else (second, first)
        left, right = (pictures[side[chosen]].transpose(0, 3, 1, 2) for side in (cut, whole))
        left = _resampled(left, *_FINE[number % len(_FINE)])
        correlation[chosen] = np.einsum("nd,nd->n", _normalised(left), _normalised(right))
    correlation[first == second] = 1.0
    return correlation


def _best_crop(first: np.ndarray, second: np.ndarray, crops: list) -> tuple[np.ndarray, np.ndarray]:
    """Greatest correlation (n,) float32 of (n, h, w) gray copies over crops of the first, then of the second, and its
    number (n,) int64: k < len(crops) is a crop of the first, len(crops) + k of the second. Either picture may be the
    narrower cut of the frame, so each is cropped and held against the whole other one."""
    best, number = np.empty(len(first), np.float32), np.empty(len(first), np.int64)
    operators = _operators(first.shape[1:], tuple(crops))
    # a crop is a product with one matrix for all pictures; in chunks, since (n, crops, h * w) would not fit
    for start in range(0, len(first), chunk := max(1, 2**15 // len(crops))):
        sides = first[start : start + chunk], second[start : start + chunk]
        units = [_normalised(side) for side in sides]
        correlation = np.hstack([_crop_correlations(*pair, operators) for pair in (units, units[::-1])])
        number[start : start + chunk] = correlation.argmax(axis=1)
        best[start : start + chunk] = correlation.max(axis=1)
    return best, number


def _crop_correlations(cut: np.ndarray, whole: np.ndarray, operators: np.ndarray) -> np.ndarray:
    """(n, crops) correlation of every crop of the (n, d) unit vectors `cut` with `whole`."""
    cropped = (cut @ operators).reshape(len(cut), -1, cut.shape[1])
    product = np.einsum("nkd,nd->nk", cropped, whole)
    norm = np.sqrt(np.einsum("nkd,nkd->nk", cropped, cropped))
    return np.divide(product, norm, out=np.zeros_like(product), where=norm > 1e-6)


@functools.cache
def _operators(shape: tuple[int, int], crops: tuple) -> np.ndarray:
    """(d, crops * d) matrix that takes a flat copy to all its crops, each with its mean removed."""
    height, width = shape
    each = [np.kron(_sampling(height, *rows), _sampling(width, *columns)) for rows, columns in crops]
    return np.concatenate([(operator - operator.mean(axis=0)).T for operator in each], axis=1)


def _resampled(images: np.ndarray, rows: tuple[float, float], columns: tuple[float, float]) -> np.ndarray:
    """The part of (..., h, w) images between fractions of their height and width, linearly resampled to (h, w)."""
    height, width = images.shape[-2:]
    return _sampling(height, *rows) @ images.astype(np.float32) @ _sampling(width, *columns).T


def _sampling(size: int, start: float, stop: float) -> np.ndarray:
    """(size, size) weights that read positions start..stop (fractions) of a line by linear interpolation."""
    centres = np.clip((start + (stop - start) * (np.arange(size) + 0.5) / size) * size - 0.5, 0, size - 1)
    return np.maximum(0, 1 - np.abs(centres[:, None] - np.arange(size))).astype(np.float32)


def _normalised(images: np.ndarray) -> np.ndarray:
    """(n, d) zero-mean unit vectors of images; zeros for a flat one."""
    flat = images.reshape(len(images), math.prod(images.shape[1:])).astype(np.float32)
    flat -= flat.mean(axis=1, keepdims=True)
    norm = np.linalg.norm(flat, axis=1, keepdims=True)
    return np.divide(flat, norm, out=np.zeros_like(flat), where=norm > 1e-3)


# (rows, columns) spans with every cut at every edge
_COARSE, _FINE = (list(itertools.product([(near, 1 - far) for near in cuts for far in cuts], repeat=2))
                  for cuts in ((0, 0.1), (0, 0.05, 0.1)))  # fmt: skip


def _rows(pairs: pd.DataFrame, left: pd.DataFrame, right: pd.DataFrame, per_image: int) -> pd.DataFrame:
    """Picture pairs as rows of images: of every image the best `per_image` in each set of the other side."""
    matches = pairs["test"].map(right.groupby("test").size()).groupby(pairs["train"]).sum()
    one_way = _nearest(pairs, left, right, ("train", "test"), per_image)
    other_way = _nearest(pairs, right, left, ("test", "train"), per_image)
    listed = pd.concat([one_way, other_way]).drop_duplicates(["train_set", "train_path", "test_set", "test_path"])
    listed["matches"] = listed["train"].map(matches).astype(np.int64)
    return listed.sort_values(**_BEST_FIRST)[list(COLUMNS)].reset_index(drop=True)


def _named(images: pd.DataFrame, side: str, picture: np.ndarray) -> pd.DataFrame:
    """The rows of one side with its name before every column, and the number of their picture."""
    names = {name: f"{side}_{name.removesuffix('_id').removeprefix('image_')}" for name in images.columns}
    return images.rename(columns=names).assign(**{side: picture})


def _nearest(
    pairs: pd.DataFrame, images: pd.DataFrame, others: pd.DataFrame, sides: tuple[str, str], per_image: int
) -> pd.DataFrame:
    """For every image the `per_image` most alike in each set of the other side; of equal pictures the first few."""
    side, other = sides
    few = others.groupby([other, f"{other}_set"]).head(per_image)
    rows = images.merge(pairs, on=side).merge(few, on=other).sort_values(**_BEST_FIRST)
    return rows.groupby([f"{side}_set", f"{side}_path", f"{other}_set"], sort=False).head(per_image)
