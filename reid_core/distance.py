"""Squared Euclidean distance between feature vectors; the check and the common part of all who take features."""

from __future__ import annotations

import contextlib

import numpy as np
import torch

from reid_core.copies import once

ROWS_AT_ONCE = 4096
CACHED = 2**17  # values of an array at a time where a copy in float64 is made: a MiB
SAMPLED_ROWS, OUTWEIGHED = 64, 16  # of `common_part`
is_tensor = torch.is_tensor
LARGEST = float(np.finfo(np.float32).max) / 4  # squared length: no distance is beyond float32 then
LOST = 1e-3  # part of what tells rows apart that rounding may take
SMALLEST = 2.0**-100  # of the largest squared length: smaller ones leave float32 too few digits


def on_host(features):
    """An array as it is, a tensor as one."""
    return features.detach().cpu().numpy() if is_tensor(features) else features


def squared_norms(features):
    """Squared length of every row of (n, d) float32 features: (n,) float64 of their kind, on their device.
    On the CPU equal rows have equal lengths to the last bit, wherever they stand."""
    if is_tensor(features) and features.is_cuda:
        return torch.cat([block.double().square().sum(1) for block in features.split(ROWS_AT_ONCE)])
    if is_tensor(features):
        return torch.from_numpy(squared_norms(features.detach().numpy()))
    norms, height = np.empty(len(features)), max(1, CACHED // features.shape[1])
    for start in range(0, len(features), height):
        block = features[start : start + height].astype(np.float64)
        norms[start : start + len(block)] = np.einsum("nd,nd->n", block, block)
    return norms


def single(norms):
    """float32 of an array or tensor."""
    return norms.float() if is_tensor(norms) else norms.astype(np.float32)


def as_array(features, name: str, shape: tuple[int | str, ...] = ("d",), dtype=None) -> np.ndarray:
    """Features for a learner, which computes in a precision of its own, checked.

    Parameters
    ----------
    features : (n, *shape) of any floating type; array, tensor on any device, or what NumPy makes an array of
    name : what to call them in an error
    shape : sizes after the first, a word where any will do
    dtype : what to convert to; None keeps the type (tensors shorter than float32 become float32)

    Raises ValueError for another shape, no rows, no floating type, values that are not finite or leave `dtype` (the
    first such row is named), rows that differ by less than `dtype` holds of them, a tensor that requires a gradient.
    """
    _refuse_kind(features, name)
    if is_tensor(features):
        short = features.is_floating_point() and features.dtype.itemsize < 4  # NumPy lacks bfloat16
        features = (features.detach().float() if short else features.detach()).cpu().numpy()
    features = np.asarray(features)
    if not np.issubdtype(features.dtype, np.floating):
        raise ValueError(f"The {name} have dtype {features.dtype}; pass a floating-point type, such as float32.")
    fits = [isinstance(size, str) or size == found for size, found in zip(shape, features.shape[1:], strict=False)]
    if features.ndim != 1 + len(shape) or not all(fits) or 0 in features.shape:
        expected = ", ".join(map(str, shape))
        raise ValueError(f"The {name} have shape {features.shape}; expected (n, {expected}) with n > 0.")
    exact = features
    with np.errstate(over="ignore"):
        features = features.astype(dtype or features.dtype, copy=False)
    axes = tuple(range(1, features.ndim))
    starts = range(0, len(features), ROWS_AT_ONCE)
    finite = [np.isfinite(features[start : start + ROWS_AT_ONCE]).all(axes) for start in starts]
    _refuse_rows(~np.concatenate(finite), name, f"NaN, infinity or values beyond {features.dtype}")
    if features.dtype.itemsize < exact.dtype.itemsize:
        lost = max(np.abs(exact[i : i + ROWS_AT_ONCE] - features[i : i + ROWS_AT_ONCE]).max() for i in starts)
        if lost > LOST * (spread := np.ptp(exact, axis=0).max() or np.abs(exact).max()):
            what = f"differ by at most {spread:.2g}, of which rounding to {features.dtype} takes up to {lost:.2g}"
            raise ValueError(f"The {name} {what}. Take off what all share, their mean, or bring them to unit length.")
    return features


def check_scale(norms, name: str) -> None:
    """Raise ValueError unless float32 holds the squares of features of these squared lengths (n,)."""
    largest = float(norms.max())
    if 0 < largest < SMALLEST or largest > LARGEST:
        how = "small" if largest < 1 else "large"
        length = f"at most {largest**0.5:.2g} long, beside what they share"
        raise ValueError(f"The {name} are {length}: too {how} to square in float32. Scale them, as to unit length.")


def check_differ(features: np.ndarray, method: str) -> None:
    """Raise ValueError, naming `method`, where all rows of training features (n, ...) are one."""
    starts = range(0, len(features), ROWS_AT_ONCE)
    if all((features[start : start + ROWS_AT_ONCE] == features[0]).all() for start in starts):
        raise ValueError(f"All training features are alike; {method} has nothing to tell people apart by.")


def check_features(query, gallery) -> tuple:
    """The check of everything that compares two sides: the squared lengths of both, (Q,) and (G,) float64.
    Raises ValueError unless both are finite, non-empty (n, d) float32 arrays, or tensors on one device that ask for no
    gradient, of one width, whose squares float32 holds."""
    sides = {"query features": query, "gallery features": gallery}
    for name, features in sides.items():
        _refuse_kind(features, name)
        if not (isinstance(features, np.ndarray) or is_tensor(features)):
            raise ValueError(f"The {name} are a {type(features).__name__}; pass a NumPy array or a torch tensor.")
        if features.ndim != 2:
            raise ValueError(f"The {name} have shape {tuple(features.shape)}; expected (n, d).")
        if not str(features.dtype).endswith("float32"):
            remedy = "convert them to float32 first, for example with .astype(numpy.float32) or .float()"
            raise ValueError(f"The {name} have dtype {features.dtype}; {remedy}.")
        if 0 in features.shape:
            raise ValueError(f"The {name} are empty: shape {tuple(features.shape)}.")
    if query.shape[1] != gallery.shape[1]:
        widths = f"{query.shape[1]} dimensions but gallery features {gallery.shape[1]}"
        raise ValueError(f"Query features have {widths}; extract both with the same model.")
    if is_tensor(query) != is_tensor(gallery):
        raise ValueError("Query and gallery features must both be NumPy arrays or both be torch tensors.")
    if is_tensor(query) and query.device != gallery.device:
        raise ValueError(f"Query features are on {query.device} but gallery features on {gallery.device}; move one.")
    norms = squared_norms(query), squared_norms(gallery)
    for name, squares in zip(sides, norms, strict=True):
        too_large = ~(squares <= LARGEST)  # NaN is not, either
        _refuse_rows(on_host(too_large), name, "NaN, infinity or values too large to square in float32")
    return norms


def _refuse_kind(features, name: str) -> None:
    kind = "sparse " if getattr(features, "layout", 0) not in (0, torch.strided) or hasattr(features, "tocsr") else ""
    if kind or isinstance(features, np.matrix | np.ma.MaskedArray):
        raise ValueError(f"The {name} are a {kind}{type(features).__name__}; pass a NumPy array or a torch tensor.")
    if is_tensor(features) and features.is_meta:
        raise ValueError(f"The {name} are on device meta, which holds no values; compute them on another.")
    if is_tensor(features) and features.requires_grad and torch.is_grad_enabled():
        remedy = "detach them first, or compute under torch.no_grad(). For a loss use torch.cdist"
        raise ValueError(f"The {name} require a gradient, which nothing here passes on; {remedy}.")


def _refuse_rows(bad: np.ndarray, name: str, what: str) -> None:
    if bad.any():
        all_told = f"({np.sum(bad)} such rows in all); extract the features again or drop these images."
        raise ValueError(f"Row {np.argmax(bad)} of the {name} holds {what} {all_told}")


def common_part(*parts) -> np.ndarray | None:
    """What rows of finite features (n, d) share, (d,) float32, where it outweighs what tells them apart, else None.
    Distances do not depend on it, but the squares they are made of do: taken off first, it costs no digits. The mean of
    some rows is taken, as any will do; features that share little are left as they are, to the bit."""
    rows = [on_host(part[:: -(-len(part) // SAMPLED_ROWS)]) for part in parts]
    rows = np.concatenate(rows, dtype=np.float64)
    mean = rows.mean(0)
    rows -= mean
    apart = np.einsum("nd,nd->", rows, rows) / len(rows)
    return mean.astype(np.float32) if mean @ mean > OUTWEIGHED * apart else None


def power_of_two(squared_length: float) -> float:
    """An exact factor that brings this largest squared length to about 1; 1 where float32 holds the squares anyway.

    >>> power_of_two(1.0), power_of_two(2.0**-200), power_of_two(0.0)
    (1.0, 1.2676506002282294e+30, 1.0)
    """
    if squared_length == 0 or SMALLEST < squared_length < 1 / SMALLEST:
        return 1.0
    return float(2.0 ** np.clip(-np.round(np.log2(squared_length) / 2), -120, 120))


def squared_euclidean(query, gallery):
    """Squared Euclidean distance of every query to every gallery image.

    The paper's pairwise distance (Section 3.4) is the square of the difference; so is this, never its root. Computed as
    |q|^2 + |g|^2 - 2 q.g, what all share taken off first where it is large (`common_part`); rounding below zero is
    clamped to 0. Rows that are equal bit by bit have equal distances, and 0 to each other.

    Parameters
    ----------
    query, gallery : (Q, d) and (G, d) float32, both NumPy arrays or both torch tensors on one device

    Returns (Q, G) float32, squared, of the inputs' kind and on their device.
    Raises ValueError for features empty or not float32, widths that differ, NaN or infinity, values too large or too
    small to square in float32, a gradient asked for.

    >>> squared_euclidean(np.float32([[0, 0]]), np.float32([[3, 4], [1, 0]])).tolist()
    [[25.0, 1.0]]
    """
    norms = check_features(query, gallery)
    if (centre := common_part(query, gallery)) is not None:
        centre = torch.from_numpy(centre).to(query.device) if is_tensor(query) else centre
        query, gallery = query - centre, gallery - centre
        norms = squared_norms(query), squared_norms(gallery)
    check_scale(torch.cat(norms) if is_tensor(query) else np.concatenate(norms), "features")

    def measure(rows, columns):
        products = inner_products(query[rows], gallery[columns])
        return expand(products, single(norms[0][rows]), single(norms[1][columns]), floor=0.0)

    return once(query, gallery, measure, norms)


def inner_products(rows, columns):
    """rows @ columns.T in true float32, whatever precision torch has been told to use for matrix products.
    (n, d) and (m, d) float32 of one kind and device give (n, m) float32 of that kind. Tensors on the CPU go through
    NumPy, whose products are up to twice as fast there."""
    if not is_tensor(rows):
        return rows @ columns.T
    if rows.device.type == "cpu":
        return torch.from_numpy(rows.detach().numpy() @ columns.detach().numpy().T)
    with matmul_precision("ieee"):
        return rows @ columns.T


@contextlib.contextmanager
def matmul_precision(precision: str):
    """Set the arithmetic of CUDA's float32 matrix products, "ieee" or "tf32", for a while."""
    matmul = torch.backends.cuda.matmul
    before, matmul.fp32_precision = matmul.fp32_precision, precision
    try:
        yield
    finally:
        matmul.fp32_precision = before


def expand(product, row_norms, column_norms, *, floor: float):
    """Turn (n, m) float32 inner products into squared distances |r|^2 + |c|^2 - 2 r.c, in place, not below `floor`.
    row_norms (n,) and column_norms (m,) are squared lengths in float32, of the product's kind."""
    product *= -2
    product += row_norms[:, None]
    product += column_norms
    if is_tensor(product):
        return product.clamp_(min=floor)
    return np.maximum(product, floor, out=product)
