"""Re-ranking of SCSP [3], which says how alike two images are, and gives no distance.

Re-ranking wants distances among queries and gallery together, 0 of an image to itself; SCSP's -f(x, z) may be below 0.
All of it is shifted here until none is, which leaves every order as it is. The shift is ours (no paper re-ranks SCSP);
on embedded data twice the shift changes scores by 0.1 points.
"""

from dataclasses import replace
from functools import partial

import numpy as np

from reid_core.baselines.scsp import SCSP
from reid_core.baselines.windows import unit
from reid_core.matching import Matching
from reid_core.reranking import Settings, final_blocks, pair_distance, reciprocal_vectors
from reid_core.reranking.neighbours import Points, nearest


def reranked(learner: SCSP, query: np.ndarray, gallery: np.ndarray, how: Matching) -> np.ndarray:
    """Distance of Eq. (4), (Q, G) float32, of a fitted SCSP's features (Q, L, d) and (G, L, d) float32."""
    settings = Settings(how.k1, how.k2, how.lambda_value, half=how.half, jaccard=how.jaccard)
    cloud = points(learner, np.concatenate([query, gallery]))
    lowest = float(nearest(cloud, 2).distance.min())  # at most 0, each image's distance to itself
    cloud = replace(cloud, norms=cloud.norms - np.float32(lowest / 2))
    found, itself = nearest(cloud, how.k1 + 1), np.arange(len(cloud))
    vectors = reciprocal_vectors(found, partial(pair_distance, cloud, itself), settings)
    out = np.empty((len(query), len(gallery)), np.float32)
    for rows, block in final_blocks(vectors, cloud, itself, found.farthest, len(query), settings, None):
        out[rows] = block
    return out


def points(learner: SCSP, features: np.ndarray) -> Points:
    """Features (n, L, d) in the form that a search takes: -f(x, z) = norm_x + norm_z - 2 <left_x, right_z>."""
    left, right, norms = [], [], np.zeros(len(features), np.float32)
    weights = np.asarray(learner.layer_weights) / (2 * len(learner.layer_weights))
    for layer, weight in enumerate(weights.astype(np.float32)):
        for matrices, sign in ((learner.distance_, -weight), (learner.bilinear_, weight)):
            part = features[:, layer, : len(matrices[layer])]
            right.append(unit(part))
            left.append(sign * right[-1] @ matrices[layer].astype(np.float32))
            if sign < 0:
                norms += np.einsum("nd,nd->n", left[-1], right[-1])
    return Points(np.concatenate(left, axis=1), np.concatenate(right, axis=1), norms, -np.inf)
