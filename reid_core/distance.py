"""Squared Euclidean distance between feature vectors, and the checks every consumer of features shares."""

from __future__ import annotations

import contextlib
import sys

import numpy as np

ROWS_AT_ONCE = 4096


def is_tensor(array) -> bool:
    """Whether `array` is a torch tensor, without importing torch for those who never use it."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(array, torch.Tensor)


def squared_norms(features):
    """Squared length of every row of (n, d) float32 features: (n,) float32 of their kind, summed in float64.

    Infinite where it is beyond float32, NaN where the row holds NaN.
    """
    if is_tensor(features):
        parts = [block.double().square().sum(1) for block in features.split(ROWS_AT_ONCE)]
        return sys.modules["torch"].cat(parts).float()
    norms = np.empty(len(features), np.float32)
    with np.errstate(over="ignore"):
        for start in range(0, len(features), ROWS_AT_ONCE):
            block = features[start : start + ROWS_AT_ONCE]
            norms[start : start + len(block)] = np.einsum("nd,nd->n", block, block, dtype=np.float64)
    return norms


def check_features(query, gallery) -> None:
    """Raise ValueError unless both are non-empty (n, d) float32 arrays or tensors of one width.

    Values are not looked at here; see `check_finite`.
    """
    for name, features in (("query", query), ("gallery", gallery)):
        if not (isinstance(features, np.ndarray) or is_tensor(features)):
            raise ValueError(
                f"The {name} features are a {type(features).__name__}; pass a NumPy array or a torch tensor."
            )
        if features.ndim != 2:
            raise ValueError(f"The {name} features have shape {tuple(features.shape)}; expected (n, d).")
        if not str(features.dtype).endswith("float32"):
            raise ValueError(
                f"The {name} features have dtype {features.dtype}; convert them to float32 first, "
                "for example with .astype(numpy.float32) or .float()."
            )
        if 0 in features.shape:
            raise ValueError(f"The {name} features are empty: shape {tuple(features.shape)}.")
    if query.shape[1] != gallery.shape[1]:
        raise ValueError(
            f"Query features have {query.shape[1]} dimensions but gallery features {gallery.shape[1]}; "
            "extract both with the same model."
        )
    if is_tensor(query) != is_tensor(gallery):
        raise ValueError("Query and gallery features must both be NumPy arrays or both be torch tensors.")
    if is_tensor(query) and query.device != gallery.device:
        raise ValueError(
            f"Query features are on {query.device} but gallery features on {gallery.device}; "
            "move both to one device."
        )


def check_finite(norms, name: str) -> None:
    """Raise ValueError naming the first row of the `name` features whose squared norm, of (n,), is NaN or infinite."""
    finite = norms.isfinite() if is_tensor(norms) else np.isfinite(norms)
    if not bool(finite.all()):
        row = int((~finite).nonzero()[0][0])
        raise ValueError(
            f"Row {row} of the {name} features holds NaN, infinity or values too large to square in float32 "
            f"({int((~finite).sum())} such rows in all); extract the features again or drop these images."
        )


def squared_euclidean(query, gallery):
    """Squared Euclidean distance of every query to every gallery image.

    The paper's pairwise distance (Section 3.4) is the square of the difference; so is this, never its root.
    Rounding of |q|^2 + |g|^2 - 2 q.g below zero is clamped to 0.

    Args:
        query: (Q, d) float32, NumPy array or torch tensor.
        gallery: (G, d) float32, of the same kind, on the same device.

    Returns:
        (Q, G) float32, squared, of the inputs' kind and on their device.

    Raises:
        ValueError: empty, not float32, widths that differ, NaN or infinity.

    >>> squared_euclidean(np.float32([[0, 0]]), np.float32([[3, 4], [1, 0]])).tolist()
    [[25.0, 1.0]]
    """
    check_features(query, gallery)
    query_norms, gallery_norms = squared_norms(query), squared_norms(gallery)
    check_finite(query_norms, "query")
    check_finite(gallery_norms, "gallery")
    return expand(inner_products(query, gallery), query_norms, gallery_norms, floor=0.0)


def inner_products(rows, columns):
    """rows @ columns.T in true float32, whatever precision torch has been told to use for matrix products.

    (n, d) and (m, d) float32 of one kind and device give (n, m) float32 of that kind. Tensors on the CPU go through
    NumPy, whose products are up to twice as fast there.
    """
    if not is_tensor(rows):
        return rows @ columns.T
    if rows.device.type == "cpu":
        return sys.modules["torch"].from_numpy(rows.detach().numpy() @ columns.detach().numpy().T)
    with matmul_precision("ieee"):
        return rows @ columns.T


@contextlib.contextmanager
def matmul_precision(precision: str):
    """Set the arithmetic of CUDA's float32 matrix products, "ieee" or "tf32", for a while."""
    matmul = sys.modules["torch"].backends.cuda.matmul
    before, matmul.fp32_precision = matmul.fp32_precision, precision
    try:
        yield
    finally:
        matmul.fp32_precision = before


def expand(product, row_norms, column_norms, *, floor: float):
    """Turn (n, m) inner products into squared distances |r|^2 + |c|^2 - 2 r.c, in place, not below `floor`.

    row_norms (n,) and column_norms (m,) are squared lengths; all float32, of one kind.
    """
    product *= -2
    product += row_norms[:, None]
    product += column_norms
    if is_tensor(product):
        return product.clamp_(min=floor)
    return np.maximum(product, floor, out=product)
