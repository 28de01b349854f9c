import warnings

import numpy as np
import pytest

from reid_core import datasets
from reid_core.datasets import table


def people(dataset, train, test, *, images=2):
    """A table with `images` images a person, half in camera 1, half in camera 2."""
    rows = [("train", person) for person in train for _ in range(images)]
    rows += [(subset, person) for person in test for subset in ("query", "gallery")]
    return table.validate(
        table.build(
            dataset,
            [subset for subset, _ in rows],
            [person for _, person in rows],
            [1 + (subset != "query") for subset, _ in rows],
            [f"/data/{dataset}/{number}-{subset}-{person}.png" for number, (subset, person) in enumerate(rows)],
        )
    )


def label_map(combined):
    """Who each label is, one row a label."""
    rows = combined[["label", "dataset", "person_id"]].drop_duplicates()
    return rows.sort_values("label", ignore_index=True)


def test_labels_are_contiguous_over_sorted_sets_and_people():
    tables = {"market1501": people("market1501", [7, 2], [1]), "cuhk01": people("cuhk01", [2, 9], [])}
    combined = datasets.combine(tables)
    assert set(combined["subset"]) == {"train"}
    assert combined["label"].dtype == np.int64
    assert label_map(combined).values.tolist() == [
        [0, "cuhk01", 2],
        [1, "cuhk01", 9],
        [2, "market1501", 2],
        [3, "market1501", 7],
    ]
    assert combined["label"].tolist() == [3, 3, 2, 2, 0, 0, 1, 1]
    again = datasets.combine(dict(reversed(tables.items())))
    assert label_map(again).equals(label_map(combined)), "labels must not depend on the order given"


def test_colliding_numbers_of_two_sets_stay_two_people():
    combined = datasets.combine({"a": people("a", [1], []), "b": people("b", [1], [])})
    assert combined.groupby("label")["dataset"].nunique().tolist() == [1, 1]


def test_a_training_person_who_is_scored_is_found_across_the_two_forms():
    labeled, detected = people("cuhk03", [1, 2, 3], [4]), people("cuhk03", [1, 2, 4], [3])
    market = people("market1501", [3], [5])
    tables = {"cuhk03": labeled, "market1501": market}
    leaked = datasets.leaked_people(datasets.combine(tables), [labeled, detected, market])
    assert leaked.values.tolist() == [["cuhk03", 3, 2, 2]]
    assert datasets.leaked_people(labeled, [labeled, market]).empty
    assert datasets.leaked_people(labeled, []).empty

    with pytest.warns(UserWarning, match="1 training person is a test person .* cuhk03 3"):
        kept = datasets.combine(tables, scored=[labeled, detected])
    assert kept["label"].max() == 3
    safe = datasets.combine(tables, scored=[labeled, detected], leaked="leave_out")
    assert label_map(safe).values.tolist() == [[0, "cuhk03", 1], [1, "cuhk03", 2], [2, "market1501", 3]]
    with pytest.raises(ValueError, match="leave_out"):
        datasets.combine(tables, scored=[labeled, detected], leaked="refuse")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        datasets.combine(tables, scored=[labeled, market])


def test_junk_and_distractors_of_the_gallery_are_nobody():
    gallery = table.build("market1501", "gallery", [-1, 0], 1, ["/data/x.jpg", "/data/y.jpg"])
    train = people("market1501", [1], [])
    assert datasets.leaked_people(train, [gallery]).empty


def test_leaving_people_out_makes_labels_anew():
    combined = datasets.combine({"a": people("a", [1, 2, 3], [])})
    rest = datasets.leave_out(combined, combined[combined["person_id"] == 2])
    assert rest[["person_id", "label"]].drop_duplicates().values.tolist() == [[1, 0], [3, 1]]


def test_wrong_requests_are_refused():
    with pytest.raises(ValueError, match="no image table"):
        datasets.combine({})
    with pytest.raises(ValueError, match="gallery-only has no training rows"):
        datasets.combine({"gallery-only": people("a", [], [1])})
    with pytest.raises(ValueError, match="leaked is 'ignore'"):
        datasets.combine({"a": people("a", [1], [])}, leaked="ignore")


def test_the_paper_s_sum_and_the_one_shared_person_at_full_size(full_data):
    tables = {name: datasets.load(name, full_data) for name in ("market1501", "cuhk01")}
    forms = [datasets.load("cuhk03", full_data, boxes=boxes, form="np") for boxes in ("labeled", "detected")]
    combined = datasets.combine({**tables, "cuhk03": forms[0]})
    assert combined["label"].max() + 1 == 2489 == 751 + 767 + 971
    assert datasets.leaked_people(combined, forms)["person_id"].tolist() == [1202]
    assert datasets.leaked_people(forms[1], forms)["person_id"].tolist() == [1390]
