"""From features to distances: which images take part, what the metric learns from, what each setting reaches."""

import numpy as np
import pandas as pd
import pytest

from reid_core import matching, reranking, xqda
from reid_core.datasets import table as image_table
from reid_core.features import Features
from reid_core.matching import Matching, match


def made(junk=3, seed=0):
    """Features (N, 6) float32 of length 1: training images, queries, and a gallery with a distractor and junk."""
    rows = [("train", person, 1 + i % 2) for person in range(1, 6) for i in range(4)]
    rows += [("query", person, 1) for person in range(11, 17)]
    rows += [("gallery", person, 2) for person in (*range(11, 17), *range(11, 17), 0, *[-1] * junk)]
    table = pd.DataFrame(rows, columns=["subset", "person_id", "camera_id"])
    table["dataset"], table["image_path"] = "market1501", [f"/{i}" for i in range(len(table))]
    draw = np.random.default_rng(seed)
    values = draw.normal(size=(40, 6))[table["person_id"].to_numpy()] + draw.normal(scale=0.9, size=(len(table), 6))
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    return Features(values.astype(np.float32), table[list(image_table.COLUMNS)], {})


def parts(found):
    subset = found.table["subset"].to_numpy()
    return [found.values[subset == name] for name in ("train", "query", "gallery")]


def test_a_set_falls_into_its_three_parts_with_rows_numbered_from_0():
    found = made()
    shuffled = np.random.default_rng(1).permutation(len(found))
    mixed = Features(found.values[shuffled], found.table.iloc[shuffled].reset_index(drop=True), {})
    for whole in (mixed, mixed.table):
        train, query, gallery = matching.split(whole)
        assert [len(part) for part in (train, query, gallery)] == [20, 6, 16]
        for name, part in (("train", train), ("query", query), ("gallery", gallery)):
            table = part.table if whole is mixed else part
            assert (table["subset"] == name).all() and list(table.index) == list(range(len(table)))
    for part in matching.split(mixed):
        places = [int(path[1:]) for path in part.table["image_path"]]
        assert np.array_equal(part.values, found.values[places]), "each row keeps its feature"


def test_junk_stays_in_the_pool_while_reranking_unless_told_otherwise():
    found, how = made(), Matching(k1=5, k2=2)
    _, query, gallery = parts(found)
    kept = match(found, "euclidean", True, how)
    assert np.array_equal(kept.distance, reranking.k_reciprocal(query, gallery, k1=5, k2=2))
    assert list(kept.gallery["person_id"])[-3:] == [-1] * 3, "the official toolchain leaves junk in"
    without = match(found, "euclidean", True, Matching(k1=5, k2=2, junk_in_pool=False))
    assert without.distance.shape == (6, 13) and (without.gallery["person_id"] != -1).all()
    assert np.array_equal(without.distance, reranking.k_reciprocal(query, gallery[:13], k1=5, k2=2))
    assert not np.allclose(without.distance, kept.distance[:, :13]), "junk moves the others' distances"


@pytest.mark.parametrize("reranked", [False, True])
def test_the_metric_is_learnt_on_the_training_images_alone(reranked):
    found, how = made(), Matching(k1=5, k2=2)
    train, query, gallery = parts(found)
    rows = found.table[found.table["subset"] == "train"]
    metric = xqda.XQDA().fit(train, rows["person_id"].to_numpy(), rows["camera_id"].to_numpy())
    expected = (reranking.k_reciprocal(query, gallery, metric=metric, k1=5, k2=2) if reranked
                else metric.distance(query, gallery))  # fmt: skip
    matched = match(found, "xqda", reranked, how)
    assert np.array_equal(matched.distance, expected) and matched.seconds_fit > 0
    given = match(made(seed=7), "xqda", reranked, how, learned=metric)
    assert not np.array_equal(given.distance, match(made(seed=7), "xqda", reranked, how).distance)
    plain = match(found, "euclidean", reranked, how, learned=metric)
    assert np.array_equal(plain.distance, match(found, "euclidean", reranked, how).distance), "no use for a metric"


def test_people_of_two_sets_with_one_number_are_told_apart_by_their_label():
    found = made()
    labelled = found.table.assign(label=np.arange(len(found)) // 2)
    one, two = (matching.people(table)[0] for table in (found.table, labelled))
    assert len(np.unique(one)) < len(np.unique(two)) == 21
    assert list(matching.people(labelled)[1]) == list(found.table["camera_id"])
    fits = [matching.learn(Features(found.values, table, {})).metric_ for table in (found.table, labelled)]
    assert fits[0].shape != fits[1].shape or not np.allclose(*fits)


def test_solver_and_pairing_reach_the_metric():
    found = made()
    _, query, gallery = parts(found)
    ways = ({}, {}, {"pairing": 3}, {"solver": "eigh"})
    first, again, *others = (matching.learn(found, **way).distance(query, gallery) for way in ways)
    assert np.array_equal(first, again)
    assert not any(np.allclose(first, other) for other in others)
    eigh = match(found, "xqda", False, Matching(xqda_solver="eigh")).distance
    assert not np.allclose(eigh, match(found, "xqda", False, Matching()).distance)


@pytest.mark.parametrize("change", [{"k1": 4}, {"k2": 1}, {"lambda_value": 0.9}, {"half": "ports"}, {"jaccard": "set"}])
def test_every_setting_of_reranking_reaches_it(change):
    _, query, gallery = parts(made())
    settings = {"k1": 7, "k2": 2} | change
    distance = Matching(**settings).reranked(query, gallery)
    assert np.array_equal(distance, reranking.k_reciprocal(query, gallery, **settings))
    assert not np.array_equal(distance, Matching(k1=7, k2=2).reranked(query, gallery)), change


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ap": "trapez"}, "ap is 'trapez'; it is one of trapezoid, step"),
        ({"xqda_solver": ["svd"]}, r"xqda_solver is \['svd'\]; it is one of svd, eigh"),
        ({"k1": "20"}, "k1 is '20'; it is a number, written without quotes"),
        ({"k1": True}, "k1 is True; it is a number"),
        ({"k1": 20.5}, "k1=20.5 must be a whole number"),
        ({"lambda_value": "0.3"}, "lambda_value is '0.3'; it is a number"),
        ({"lambda_value": float("nan")}, "lambda_value=nan must lie in"),
        ({"k2": 30}, "k2=30 exceeds k1=20"),
        ({"junk_in_pool": "no"}, "junk_in_pool is 'no'; it is true or false"),
    ],
)
def test_settings_that_nothing_would_take_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Matching(**settings)


def test_an_unknown_metric_is_refused():
    with pytest.raises(ValueError, match="metric='cosine' is unknown; choose one of 'euclidean', 'xqda'"):
        match(made(), "cosine", False, Matching())
