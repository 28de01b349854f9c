"""`re_ranking` as other toolkits call it, for whoever has distances instead of features.

From features: `reranking.k_reciprocal(query, gallery, half="ports")`, the same values without an (N, N) array.
"""

import numpy as np
import torch

from reid_core.distance import as_array
from reid_core.reranking import Settings, final_blocks, neighbours, reciprocal_vectors


def re_ranking(q_g_dist, q_q_dist, g_g_dist, k1=20, k2=6, lambda_value=0.3):
    """Re-ranked distance from pairwise distances: the values of Zhong et al.'s released Python code, and torchreid's.

    Like these it squares what it is given: pass plain Euclidean (or cosine) distances, not their squares. Copies of the
    code that begin with `2 - 2 * original_dist` take cosine similarities s: pass those as 2 - 2 * s.

    Parameters
    ----------
    q_g_dist, q_q_dist, g_g_dist : (Q, G), (Q, Q) and (G, G) of any floating type, arrays or tensors
    k1, k2, lambda_value : see `reranking.k_reciprocal`

    Returns (Q, G) float32 NumPy array. Raises ValueError for shapes that do not fit, no floating type, NaN or infinity,
    what looks like similarities (an image farther from itself than from the others), and settings out of range.
    """
    settings = Settings(k1, k2, lambda_value, half="ports")
    to_gallery = as_array(q_g_dist, "q_g_dist", ("G",))
    own, n_query = [], len(to_gallery)
    for side, name, n in zip((q_q_dist, g_g_dist), ("q_q_dist", "g_g_dist"), to_gallery.shape, strict=True):
        own.append(side := as_array(side, name, (n,)))
        if len(side) != n:
            raise ValueError(f"The {name} have shape {side.shape}; expected ({n}, {n}), as q_g_dist says.")
        if side.trace(dtype=float) / n > side.mean(dtype=float):
            raise ValueError(f"The {name} of an image to itself exceed others; pass distances, not similarities.")
    distance = np.block([[own[0].T, to_gallery], [to_gallery.T, own[1].T]])  # by columns, as the released code has it
    distance = distance.astype(np.promote_types(distance.dtype, np.float32), copy=False)
    distance = np.ldexp(distance, -np.frexp(np.abs(distance).max())[1])  # changes no digit, and squares stay in range
    distance = np.square(distance, out=distance).astype(np.float32, copy=False)
    found = neighbours.nearest_of(distance, k1 + 1)
    distance = torch.from_numpy(distance)
    vectors = reciprocal_vectors(found, lambda row, column: distance[row, column], settings)
    result = distance[:n_query, n_query:].contiguous()
    for _ in final_blocks(vectors, None, None, found.farthest, n_query, settings, result):
        pass
    return result.numpy()
