"""Re-ranking of SCSP's similarity, against pairs one by one and the metric that it is without its second part."""

import numpy as np
import pytest

from reid_core.baselines.scsp import SCSP
from reid_core.matching import Matching
from reid_core.reranking import k_reciprocal
from reid_core.xqda import XQDA
from reproduction import similarity

HOW = Matching(k1=6, k2=3)


@pytest.fixture(scope="module")
def learnt():
    """A fitted SCSP of three layers, six queries and thirty gallery images, the last two copies of one."""
    random = np.random.RandomState(0)
    person = np.repeat(np.arange(12), 4)
    X = (random.randn(12, 3, 7)[person] + 0.7 * random.randn(48, 3, 7)).astype(np.float32)
    learner = SCSP([1.1, 1, 1], n_distance=4, n_bilinear=6, iterations=6).fit(X, person, np.tile([1, 2, 1, 2], 12))
    X[-1] = X[-2]
    return learner, X[:6], X[18:]


def test_points_give_the_dissimilarity_of_every_pair(learnt):
    learner, query, gallery = learnt
    cloud = similarity.points(learner, np.concatenate([query, gallery]))
    found = cloud.distance(slice(0, 6), slice(6, None))
    np.testing.assert_allclose(found, learner.distance(query, gallery), atol=1e-5)
    assert found.min() < 0, "a distance of no image to itself"


def test_with_the_plain_part_alone_the_order_of_each_query_is_that_of_scsp(learnt):
    learner, query, gallery = learnt
    found = similarity.reranked(learner, query, gallery, Matching(k1=6, k2=3, lambda_value=1.0))
    pool = np.concatenate([query, gallery])
    plain = learner.distance(pool, pool)
    plain -= plain[~np.eye(len(pool), dtype=bool)].min()
    np.fill_diagonal(plain, 0)
    np.testing.assert_allclose(found, plain[:6, 6:] / plain[:6].max(axis=1, keepdims=True), atol=1e-5)


def test_without_its_similarity_part_scsp_is_a_metric_and_reranked_as_one(learnt):
    learner, query, gallery = learnt
    metric = SCSP(learner.layer_weights)
    metric.distance_, metric.bilinear_ = learner.distance_, np.zeros_like(learner.bilinear_)
    found = similarity.reranked(metric, query, gallery, HOW)
    flat = [np.concatenate([similarity.unit(side[:, layer, :4]) for layer in range(3)], axis=1)
            for side in (query, gallery)]  # fmt: skip
    same, (a, b, c) = XQDA(), -learner.distance_ * np.array([1.1, 1, 1])[:, None, None]
    zero = np.zeros((4, 4))
    same.components_, same.metric_ = np.eye(12), np.block([[a, zero, zero], [zero, b, zero], [zero, zero, c]])
    np.testing.assert_allclose(found, k_reciprocal(*flat, metric=same, k1=6, k2=3), atol=1e-4)
