import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch

from reid_core.datasets.table import unmatched_queries
from reid_core.evaluation import MANY_MATCHES, Evaluator, average_precision, evaluate, protocol, ranked


def table(person, camera):
    return pd.DataFrame({"person_id": person, "camera_id": camera})


def loop_evaluate(distance, query, gallery, ap):
    """The official scoring as prose: walk down each stable ranking, skip junk, stop at the last true match."""
    aps, first_hits, matches = [], [], []
    for row, person, camera in zip(distance, query.person_id, query.camera_id, strict=True):
        g = list(zip(gallery.person_id, gallery.camera_id, strict=True))
        total = sum(p == person and c != camera for p, c in g)
        found, seen, area, precision_before, first = 0, 0, 0.0, 1.0, None
        for j in sorted(range(len(g)), key=lambda j: (row[j], j)):
            p, c = g[j]
            if p == -1 or (p == person and c == camera):
                continue
            seen += 1
            hit = p == person and p > 0
            found += hit
            first = seen if hit and first is None else first
            precision = found / seen
            if hit:
                area += (precision if ap == "step" else (precision + precision_before) / 2) / total
            precision_before = precision
        aps.append(area)
        first_hits.append(first)
        matches.append(total if person > 0 else 0)
    return aps, first_hits, matches


def problem(seed, n_query=20, n_gallery=150, n_people=12, ties=False):
    random = np.random.default_rng(seed)
    query = table(random.integers(1, n_people, n_query), random.integers(1, 4, n_query))
    gallery = table(random.integers(-1, n_people, n_gallery), random.integers(1, 4, n_gallery))
    same = query.person_id.to_numpy()[:, None] == gallery.person_id.to_numpy()
    distance = random.normal(size=same.shape) - 1.5 * same
    return (np.round(distance, 1 if ties else 9)).astype(np.float32), query, gallery


@pytest.mark.parametrize("ap, scores", [("step", [1, 1, 5 / 6]), ("trapezoid", [1, 1, 19 / 24])])
def test_figure4(ap, scores):
    """The paper's worked examples: one hit at rank 1; hits at ranks 1 and 2; hits at ranks 1 and 3."""
    for hits, score in zip(([1], [1, 2], [1, 3]), scores, strict=True):
        assert average_precision(hits, ap) == pytest.approx(score)
        person = [1 if rank in hits else 2 for rank in range(1, 6)]
        result = evaluate(np.arange(5.0)[None], table([1], [1]), table(person, [2] * 5), ap=ap)
        assert result.mAP == pytest.approx(score) and result.rank1 == 1.0 and result.cmc.tolist() == [1.0] * 50


def test_hand_worked_protocol():
    # ranking by distance: junk, same camera, distractor, wrong, match, match
    gallery = table([5, -1, 0, 7, 5, 5], [1, 2, 2, 2, 2, 3])
    result = evaluate(np.array([[0.2, 0.1, 0.3, 0.4, 0.5, 0.6]]), table([5], [1]), gallery, ap="step")
    assert result.mAP == pytest.approx((1 / 3 + 2 / 4) / 2)
    assert result.cmc[:4].tolist() == [0, 0, 1, 1]
    row = result.per_query.iloc[0]
    assert (row["query"], row.first_hit, row.matches, row.valid) == (0, 3, 2, True)
    assert result.ap == "step" and result.unmatched_queries == 0
    assert result.mINP == row.inp == 2 / 4  # two matches, the last at rank 4


def test_mINP_is_of_the_queries_that_have_a_match():
    """Of three: matches at ranks 1 and 3, a match at rank 2, and no match in another camera."""
    gallery = table([5, 6, 5, 7], [2, 2, 2, 1])
    distance = np.array([[0.1, 0.2, 0.3, 0.4], [0.1, 0.2, 0.3, 0.4], [0.1, 0.2, 0.3, 0.4]])
    result = evaluate(distance, table([5, 6, 7], [1, 1, 1]), gallery)
    np.testing.assert_array_equal(result.per_query.inp, [2 / 3, 1 / 2, np.nan])
    assert result.mINP == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert np.isnan(evaluate(distance[2:], table([7], [1]), gallery).mINP)


@pytest.mark.parametrize("ap", ["trapezoid", "step"])
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_equals_the_loop_that_walks_the_ranking(seed, ap, ties):
    distance, query, gallery = problem(seed, ties=ties)
    aps, first_hits, matches = loop_evaluate(distance, query, gallery, ap)
    result = evaluate(distance, query, gallery, ap=ap)
    np.testing.assert_allclose(result.per_query.ap, aps, atol=1e-12)
    assert [None if pd.isna(v) else int(v) for v in result.per_query.first_hit] == first_hits
    assert result.per_query.matches.tolist() == matches
    assert result.mAP == pytest.approx(np.mean(aps))
    for k in (1, 5, 50):
        assert result.cmc[k - 1] == pytest.approx(np.mean([h is not None and h <= k for h in first_hits]))


def test_very_many_matches_take_the_sorting_path():
    distance, query, gallery = problem(0, n_query=3, n_gallery=8 * MANY_MATCHES, n_people=2, ties=True)
    aps, *_, matches = loop_evaluate(distance, query, gallery, "trapezoid")
    assert max(matches) > MANY_MATCHES
    np.testing.assert_allclose(evaluate(distance, query, gallery).per_query.ap, aps, atol=1e-12)


def test_ties_are_stable():
    gallery = table([2, 1, 2], [2, 2, 2])
    assert evaluate(np.zeros((1, 3)), table([1], [1]), gallery).per_query.first_hit[0] == 2


def test_order_alone_counts():
    distance, query, gallery = problem(1)
    result, moved = evaluate(distance, query, gallery), evaluate(np.exp(distance) + 5, query, gallery)
    assert np.array_equal(result.cmc, moved.cmc) and result.mAP == moved.mAP
    assert (np.diff(result.cmc) >= 0).all() and result.cmc[0] == result.rank1


def test_perfect_and_worst_order():
    query, gallery = table([1], [1]), table([1, 1, 2, 2], [2, 3, 2, 3])
    assert evaluate(np.array([[1.0, 2, 3, 4]]), query, gallery).mAP == 1
    assert evaluate(np.array([[4.0, 3, 2, 1]]), query, gallery, ap="step").mAP == pytest.approx((1 / 3 + 2 / 4) / 2)


def test_queries_without_match_count_as_zero_or_are_skipped():
    gallery = table([1, 9, 0], [2, 1, 2])
    query = table([1, 9, 8, 7], [1, 1, 1, 1])  # 9 only in its own camera, 8 and 7 not at all
    distance = np.arange(12.0).reshape(4, 3)
    official, skipping = (evaluate(distance, query, gallery), evaluate(distance, query, gallery, unmatched="skip"))
    assert (official.rank1, official.mAP, official.unmatched_queries) == (0.25, 0.25, 3)
    assert (skipping.rank1, skipping.mAP, skipping.unmatched_queries) == (1, 1, 3)
    assert official.per_query.valid.tolist() == [True, False, False, False]
    assert pd.isna(official.per_query.first_hit[1])


def test_nothing_matches_at_all():
    problem = np.zeros((1, 2)), table([1], [1]), table([2, 3], [2, 2])
    result = evaluate(*problem)
    assert (result.rank1, result.mAP, result.unmatched_queries) == (0, 0, 1)
    with pytest.raises(ValueError, match="Not one query has a true match.*leaves nothing to score"):
        evaluate(*problem, unmatched="skip")


def naive_protocol(query, gallery):
    """Of every query: the true matches, and what its ranking leaves out, pair by pair."""
    pairs = list(zip(gallery.person_id, gallery.camera_id, strict=True))
    for person, camera in zip(query.person_id, query.camera_id, strict=True):
        yield (
            [column for column, (p, c) in enumerate(pairs) if p == person and c != camera],
            [p == -1 or (p == person and c == camera) for p, c in pairs],
        )


def test_protocol_equals_the_loop_over_pairs_and_the_tables_own_check():
    _, query, gallery = problem(5)
    query, gallery = (part.assign(camera_id=part.camera_id % 2 + 1) for part in (query, gallery))
    query.loc[3, "person_id"] = 99
    rule = protocol(query, gallery)
    found = [(rule.split(q)[0].tolist(), rule.removed(q).tolist()) for q in range(len(query))]
    assert found == list(naive_protocol(query, gallery))
    both = pd.concat([query.assign(subset="query"), gallery.assign(subset="gallery")], ignore_index=True)
    unmatched = unmatched_queries(both.assign(dataset="own")).index.tolist()
    assert unmatched == [q for q, (matches, _) in enumerate(found) if not matches] and 3 in unmatched


@pytest.mark.parametrize("kind", ["uint8", "int32", "float32", "Int64", "UInt16", "category", "object", "text"])
def test_the_type_of_ids_changes_nothing(kind):
    distance, query, gallery = problem(6)
    person = {7: 255, 5: 254}
    query, gallery = (part.replace({"person_id": person}) for part in (query, gallery))
    gallery = gallery[gallery.person_id > 0]
    distance = distance[:, gallery.index]
    expected = evaluate(distance, query, gallery)
    if kind == "text":
        query, gallery = (part.astype(str).add("x") for part in (query, gallery))
    else:
        query, gallery = query.astype(kind), gallery.astype("int16" if kind == "object" else kind)
    found = evaluate(distance, query, gallery)
    assert found.mAP == expected.mAP > 0.2
    pd.testing.assert_frame_equal(found.per_query, expected.per_query)


@pytest.mark.parametrize(
    "query, gallery, message",
    [
        (table([0], [1]), table([0, 3], [1, 2]), "Row 0 of the query table has person_id 0 .*Number people from 1"),
        (table([7, -1], [1, 1]), table([7, 3], [1, 2]), "Row 1 of the query table has person_id -1"),
        (table([7], [1]), table([7, -2], [1, 2]), "Row 1 of the gallery table has person_id -2"),
        (table(["a"], [1]), table(["a", "-1"], [1, 2]), "Row 1 of the gallery table has person_id '-1'"),
        (table(["a"], [1]), table(["a", "0000"], [1, 2]), "gallery table has person_id '0000'"),
        (table([7], ["1"]), table([7, 3], [1, 2]), "camera_id is text on one side .*'1' in the query but 1"),
        (table([7], [1]), table(["7", "3"], [1, 2]), "person_id is text on one side .*7 in the query but '7'"),
        (table([7], [np.nan]), table([7, 3], [1, 2]), "camera_id of the query is missing in row 0"),
        (table([7], [1]), table([7, 3], [2, None]), "camera_id of the gallery is missing in row 1"),
        (table([7.5], [1]), table([7, 3], [2, 2]), "person_id of the query is no whole number in row 0"),
        (table([True], [1]), table([7, 3], [2, 2]), "person_id of the query holds boolean values"),
    ],
)
def test_ids_that_would_score_something_else_are_refused(query, gallery, message):
    with pytest.raises(ValueError, match=message):
        evaluate(np.zeros((len(query), 2)), query, gallery)
    with pytest.raises(ValueError, match=message.replace("Row 1 of the query", "Row 0 of the query")):
        ranked(np.zeros(2), query.iloc[-1], gallery)


def test_streaming_and_tensors_give_the_same_bits():
    distance, query, gallery = problem(2)
    evaluator = Evaluator(query, gallery)
    for start in range(0, len(distance), 7):
        evaluator.update(torch.from_numpy(distance[start : start + 7]))
    result = evaluate(distance, query, gallery)
    assert evaluator.result().mAP == result.mAP == evaluate(torch.from_numpy(distance), query, gallery).mAP
    pd.testing.assert_frame_equal(evaluator.result().per_query, result.per_query)


def test_bfloat16_counts_as_its_values():
    """NumPy has no such type."""
    torch = pytest.importorskip("torch")
    random = np.random.default_rng(0)
    distance = torch.from_numpy(random.random((5, 40), dtype=np.float32)).bfloat16()
    query = pd.DataFrame({"person_id": np.arange(1, 6), "camera_id": 1})
    gallery = pd.DataFrame({"person_id": np.arange(40) % 6 + 1, "camera_id": 2})
    assert evaluate(distance, query, gallery).mAP == evaluate(distance.float(), query, gallery).mAP
    found, expected = (ranked(row, query.iloc[0], gallery) for row in (distance[0], distance[0].float()))
    pd.testing.assert_frame_equal(found, expected)


def test_input_is_left_alone():
    distance, query, gallery = problem(3)
    before = distance.copy()
    evaluate(distance, query, gallery)
    assert np.array_equal(distance, before)


def test_ranked_flags_what_the_protocol_removes():
    gallery = table([5, -1, 0, 7, 5, 5, 8], [1, 2, 2, 2, 2, 3, 1])
    rows = ranked(np.array([0.2, 0.1, 0.3, 0.4, 0.5, 0.6, 0.7]), table([5], [1]).iloc[0], gallery, top=3)
    assert rows.gallery_index.tolist() == [1, 0, 2, 3, 4]
    assert rows["rank"].tolist() == [pd.NA, pd.NA, 1, 2, 3]
    assert rows.flag.tolist() == ["junk", "same camera", "", "", ""]
    assert rows.is_match.tolist() == [False, False, False, False, True]
    assert rows.distance.tolist() == [0.1, 0.2, 0.3, 0.4, 0.5]


def test_ranked_agrees_with_evaluate():
    distance, query, gallery = problem(4, ties=True)
    result = evaluate(distance, query, gallery)
    for number in range(len(query)):
        rows = ranked(distance[number], query.iloc[number], gallery, top=len(gallery))
        ranks = rows.loc[rows.is_match, "rank"].astype(int).tolist()
        assert (average_precision(ranks) if ranks else 0) == pytest.approx(result.per_query.ap[number])


@pytest.mark.parametrize(
    "distance, query, gallery, message",
    [
        (np.zeros((2, 3)), table([1], [1]), table([1] * 3, [1] * 3), r"shape \(2, 3\), but the tables have 1 queries"),
        (np.zeros((1, 3), int), table([1], [1]), table([1] * 3, [1] * 3), "dtype int64"),
        (np.zeros((0, 3)), table([], []), table([1] * 3, [1] * 3), "query table is empty"),
        (np.zeros((1, 0)), table([1], [1]), table([], []), "gallery table is empty"),
        ([[0.0] * 3], table([1], [1]), table([1] * 3, [1] * 3), "has shape list"),
        (np.zeros((1, 3)), pd.DataFrame({"person_id": [1]}), table([1] * 3, [1] * 3), "lacks the column 'camera_id'"),
    ],
)
def test_bad_input_is_named(distance, query, gallery, message):
    with pytest.raises(ValueError, match=message):
        evaluate(distance, query, gallery)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_first_row_that_is_not_finite_is_named(value):
    distance, query, gallery = problem(0)
    distance[[4, 9], 17] = value
    with pytest.raises(ValueError, match="Row 4 of the distance holds NaN or infinity .first at column 17"):
        evaluate(distance, query, gallery)


def test_unknown_choices_and_unfinished_streams_are_errors():
    distance, query, gallery = problem(0)
    with pytest.raises(ValueError, match="ap='area' is unknown; choose one of 'trapezoid', 'step'"):
        evaluate(distance, query, gallery, ap="area")
    with pytest.raises(ValueError, match="unmatched='drop' is unknown"):
        evaluate(distance, query, gallery, unmatched="drop")
    evaluator = Evaluator(query, gallery)
    evaluator.update(distance[:5])
    with pytest.raises(ValueError, match="Only 5 of 20 rows"):
        evaluator.result()
    with pytest.raises(ValueError, match="does not fit after row 5"):
        evaluator.update(distance)
    with pytest.raises(ValueError, match="does not fit after row 5"):
        evaluator.update(distance[:, :4])


def test_importing_evaluation_loads_no_network_nor_pictures():
    code = "import sys, reid_core.evaluation; print(sorted({'torch', 'h5py', 'PIL', 'scipy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def with_paths(query, gallery, cameras=None):
    """The tables with image_path: query q is the gallery's image q too, where both are one person's."""
    query = query.assign(image_path=[f"/q{row}" for row in range(len(query))])
    gallery = gallery.assign(image_path=[f"/g{row}" for row in range(len(gallery))])
    for row in range(len(query)):
        gallery.loc[row, ["person_id", "image_path"]] = query.loc[row, ["person_id", "image_path"]].tolist()
    return [part if cameras is None else part.assign(camera_id=cameras) for part in (query, gallery)]


def test_without_cameras_only_the_querys_own_image_is_passed_over():
    distance, query, gallery = problem(11)
    query, gallery = with_paths(query, gallery)
    rows = np.arange(len(query))
    distance[rows, rows] = distance.min() - 1  # each query finds itself first
    found = evaluate(distance, query, gallery, protocol="no_cameras")
    # as market, were every gallery image of a camera of its own save the query's own
    own = gallery.assign(camera_id=np.arange(len(gallery)))
    expected = evaluate(distance, query.assign(camera_id=rows), own)
    pd.testing.assert_frame_equal(found.per_query, expected.per_query)
    assert found.protocol == "no_cameras" and expected.protocol == "market" and found.rank1 < 1
    chosen = evaluate(distance, *(part.assign(camera_id=-1) for part in (query, gallery)))
    assert chosen.protocol == "no_cameras" and chosen.mAP == found.mAP
    without = [part.drop(columns="camera_id") for part in (query, gallery)]
    assert evaluate(distance, *without, protocol="no_cameras").mAP == found.mAP
    listed = ranked(distance[3], query.assign(camera_id=-1).iloc[3], gallery.assign(camera_id=-1))
    assert listed.flag[0] == "own image" and listed.gallery_index[0] == 3 and "same camera" not in set(listed.flag)


def test_without_cameras_a_copy_under_another_name_is_a_match():
    """Names tell images apart, not what they show: the docstring says so."""
    query = pd.DataFrame({"person_id": [1, 2], "camera_id": -1, "image_path": ["a.jpg", "b.jpg"]})
    names = ["a.jpg", "copy of a.jpg", "c.jpg", "b.jpg", "d.jpg"]
    gallery = pd.DataFrame({"person_id": [1, 1, 3, 2, 2], "camera_id": -1, "image_path": names})
    distance = np.array([[0, 0, 1, 2, 3], [3, 2, 1, 0, 4.0]])
    found = evaluate(distance, query, gallery)
    assert found.per_query["first_hit"].tolist() == [1, 4] and found.per_query["matches"].tolist() == [1, 1]


def naive_single_shot(distance, query, gallery, trials, random_state):
    """CMC at rank 1 and 5, trial by trial: of each person one image, walked down."""
    random, hits = np.random.default_rng(random_state), []
    for _ in range(trials):
        place = random.permutation(len(gallery))
        for row, person, camera in zip(distance, query.person_id, query.camera_id, strict=True):
            shown = {}
            for j in np.argsort(place):
                p, c = gallery.person_id[j], gallery.camera_id[j]
                if p != -1 and not (p == person and c == camera):
                    shown.setdefault(p if p > 0 else ("nobody", j), j)
            listed = sorted(shown, key=lambda p: (row[shown[p]], shown[p]))
            hits.append(listed.index(person) + 1 if person in listed else 99)
    return [(np.array(hits) <= k).mean() for k in (1, 5)], hits


@pytest.mark.parametrize("ties", [False, True])
def test_single_gallery_shot_equals_the_walk_trial_by_trial(ties):
    distance, query, gallery = problem(12, ties=ties)
    query.loc[2, "person_id"] = 99
    settings = {"protocol": "single_gallery_shot", "trials": 7, "random_state": 3}
    found = evaluate(distance, query, gallery, **settings)
    scores, hits = naive_single_shot(distance, query, gallery, 7, 3)
    assert [found.cmc[0], found.cmc[4]] == pytest.approx(scores)
    by_trial = found.per_query.sort_values(["trial", "query"])
    assert by_trial.first_hit.fillna(99).tolist() == hits and (by_trial.matches <= 1).all()
    assert found.unmatched_queries == sum(hit == 99 for hit in hits[: len(query)]) >= 1
    assert found.protocol == "single_gallery_shot" and found.rank1 == found.cmc[0]
    assert evaluate(distance, query, gallery, **settings).mAP == found.mAP
    assert evaluate(distance, query, gallery, **settings | {"random_state": 4}).mAP != found.mAP


@pytest.mark.parametrize(
    "change, settings, message",
    [
        ({}, {"protocol": "nocameras"}, "protocol='nocameras' is unknown.*'no_cameras'"),
        ({}, {"protocol": "no_cameras"}, "query table lacks the column 'image_path'.*the query's own"),
        ({"camera_id": -1}, {"protocol": "market"}, "170 of 170 images have camera_id -1.*not known"),
        ({"camera_id": -1}, {}, "lacks the column 'image_path'"),
        ({}, {"protocol": "single_gallery_shot", "trials": 0}, "trials=0 must be at least 1"),
    ],
)
def test_protocols_that_cannot_be_followed_are_refused(change, settings, message):
    distance, query, gallery = problem(13)
    with pytest.raises(ValueError, match=message):
        evaluate(distance, query.assign(**change), gallery.assign(**change), **settings)


def test_cameras_known_in_part_are_refused():
    distance, query, gallery = problem(14)
    gallery.loc[:4, "camera_id"] = -1
    with pytest.raises(ValueError, match="5 of 170 images have camera_id -1"):
        evaluate(distance, query, gallery)


def small():
    query, gallery = ({"person_id": [7, 3], "camera_id": [1, 1]}, {"person_id": [7, 3, 7], "camera_id": [1, 2, 2]})
    return np.array([[0.1, 0.2, 0.3], [0.5, 0.1, 0.2]]), query, gallery


def test_tables_may_be_whatever_pandas_makes_one_of():
    distance, query, gallery = small()
    expected = evaluate(distance, pd.DataFrame(query), pd.DataFrame(gallery)).per_query
    pd.testing.assert_frame_equal(evaluate(distance, query, gallery).per_query, expected)
    records = [pd.DataFrame(side).to_records(index=False) for side in (query, gallery)]
    pd.testing.assert_frame_equal(evaluate(distance, *records).per_query, expected)
    with pytest.raises(ValueError, match="query table lacks the column 'person_id'"):
        evaluate(distance, None, gallery)


@pytest.mark.parametrize("setting", [{"trials": "3"}, {"trials": 2.5}, {"random_state": -1}, {"random_state": "1"}])
def test_trials_and_seeds_are_whole_numbers(setting):
    distance, query, gallery = small()
    (name, value), *_ = setting.items()
    with pytest.raises(ValueError, match=f"{name}={value!r} must be at least . a whole number|{name}=.*whole number"):
        evaluate(distance, query, gallery, protocol="single_gallery_shot", **setting)
    drawn = {"trials": np.int64(2), "random_state": np.uint8(3)}
    assert len(evaluate(distance, query, gallery, protocol="single_gallery_shot", **drawn).per_query) == 4


def test_a_masked_distance_is_refused():
    distance, query, gallery = small()
    with pytest.raises(ValueError, match="distance is a masked array; give every entry a value"):
        evaluate(np.ma.masked_greater(distance, 0.4), query, gallery)


@pytest.mark.parametrize("ranks", [[], [0, 2], [3, 1], [1, 1]])
def test_ranks_ascend_from_one(ranks):
    with pytest.raises(ValueError, match="Ranks are whole numbers from 1, ascending"):
        average_precision(ranks)


def test_text_of_cameras_is_compared_without_the_blanks_around_it():
    distance, query, gallery = small()
    expected = evaluate(distance, query, gallery).per_query
    query["camera_id"], gallery["camera_id"] = ["1 ", "1"], ["1", "2", " 2"]
    pd.testing.assert_frame_equal(evaluate(distance, query, gallery).per_query, expected)
    query["camera_id"], gallery["camera_id"] = ["-1"] * 2, ["-1"] * 3
    with pytest.raises(ValueError, match="lacks the column 'image_path'; without cameras"):
        evaluate(distance, query, gallery)
