"""The plan of all images: Table 1's numbers at full size, the new protocol's split, refusals of impossible sizes."""

import json
from collections import Counter, defaultdict
from dataclasses import replace

import numpy as np
import pytest

from reproduction.embedded import CUHK03Sizes, Sizes, plan

SIZES = {"full": Sizes.full(), "fifth": Sizes.share(0.2), "smoke": Sizes.smoke(), "tiny": Sizes.tiny()}


@pytest.fixture(params=SIZES, scope="module")
def sizes(request):
    return SIZES[request.param]


def test_the_full_size_is_table_1():
    market = plan.market1501(SIZES["full"].market1501, seed=0)
    kinds = Counter(image.kind for image in market)
    assert kinds == {"train": 12_936, "query": 3_368, "good": 13_115, "distractor": 2_798, "junk": 3_819}
    people = defaultdict(set)
    for image in market:
        people[image.kind].add(image.person_id)
    assert len(people["train"]) == 751 and len(people["query"]) == 750 and people["good"] == people["query"]
    assert not people["train"] & people["query"]
    assert {image.camera_id for image in market} == {1, 2, 3, 4, 5, 6}
    frames = plan.cuhk03(SIZES["full"].cuhk03, seed=0)
    assert sum(f.labeled for f in frames) == 14_096 and sum(f.detected for f in frames) == 14_097
    assert len({f.who for f in frames}) == 1_467
    assert len(plan.cuhk01(SIZES["full"].cuhk01)) == 3_884


def test_market1501_names_are_unique_and_every_query_has_a_match(sizes):
    images = plan.market1501(sizes.market1501, seed=1)
    assert len({(image.folder, image.name) for image in images}) == len(images)
    cameras = defaultdict(set)
    for image in images:
        if image.kind == "good":
            cameras[image.person_id].add(image.camera_id)
    for query in (image for image in images if image.kind == "query"):
        assert cameras[query.person_id] - {query.camera_id}


@pytest.mark.parametrize("boxes", ["labeled", "detected"])
def test_cuhk03_split_has_the_counts_asked_for(sizes, boxes):
    want = sizes.cuhk03
    counts = plan.cuhk03_counts(want, seed=2)[boxes]
    test = plan.test_people((counts > 1).all(1), want.test_people)
    assert test.sum() == want.test_people
    assert counts[~test].sum() == getattr(want, f"{boxes}_train_images")
    assert counts[test].sum() == 2 * want.test_people + getattr(want, f"{boxes}_gallery_images")
    assert counts.min() >= 1 and counts.max() <= 5 and counts[test].min() >= 2


def test_both_forms_of_cuhk03_differ_by_one_test_person_each(sizes):
    counts = plan.cuhk03_counts(sizes.cuhk03, seed=2)
    tests = [plan.test_people((c > 1).all(1), sizes.cuhk03.test_people) for c in counts.values()]
    assert (tests[0] & ~tests[1]).sum() == 1 and (tests[1] & ~tests[0]).sum() == 1


def test_official_proportion_of_test_people():
    assert Sizes.full().cuhk03.test_people == 700 and Sizes.smoke().cuhk03.people == 251
    assert 2 * Sizes.smoke().cuhk03.test_people >= 100


def test_the_plan_is_a_pure_function_of_sizes_and_seed():
    small = Sizes.tiny()
    assert plan.market1501(small.market1501, 5) == plan.market1501(small.market1501, 5)
    assert plan.market1501(small.market1501, 5) != plan.market1501(small.market1501, 6)
    assert plan.cuhk03(small.cuhk03, 5) == plan.cuhk03(small.cuhk03, 5)


def test_allocation_meets_total_and_bounds():
    rng = np.random.default_rng(0)
    low, high = np.array([1, 0, 2]), np.array([2, 9, 4])
    for total in range(3, 16):
        counts = plan.allocate(rng, total, low, high, np.array([5.0, 0.1, 1.0]))
        assert counts.sum() == total and (counts >= low).all() and (counts <= high).all()
    with pytest.raises(ValueError, match="16 images do not fit.* 3 to 15"):
        plan.allocate(rng, 16, low, high, np.ones(3))


def test_sizes_survive_json(sizes):
    assert json.loads(json.dumps(sizes.as_dict())) == sizes.as_dict()
    assert sizes.as_dict()["cuhk01"] == {"people": sizes.cuhk01.people}
    assert sizes.as_dict()["cuhk03"]["pair_people"] == list(sizes.cuhk03.pair_people)


@pytest.mark.parametrize(
    ("market", "message"),
    [
        ({"train_people": 1}, "train_people.* is 1"),
        ({"query_images": 7_000}, "query_images.* is 7000"),
        ({"good_images": 10}, "good_images.* is 10"),
        ({"junk_images": -1}, "junk.* is -1"),
    ],
)
def test_impossible_market1501_sizes_are_named(market, message):
    with pytest.raises(ValueError, match=message):
        Sizes(replace(Sizes.full().market1501, **market)).checked()


def test_impossible_cuhk03_sizes_are_named():
    with pytest.raises(ValueError, match="labeled_train_images must .* is 99999"):
        Sizes(cuhk03=CUHK03Sizes(labeled_train_images=99_999)).checked()
    with pytest.raises(ValueError, match="pair_people, how many pairs must lie between 5 and 5, but it is 1"):
        Sizes(cuhk03=CUHK03Sizes(pair_people=(1467,))).checked()


def test_sizes_go_by_name_or_share():
    assert Sizes.named("full") == Sizes() and Sizes.named("smoke") == Sizes.smoke()
    assert Sizes.named(0.2) == Sizes.named("0.2") == Sizes.share(0.2)
    assert Sizes.full().images == 36_036 + 14_096 + 14_097 + 3_884
    with pytest.raises(ValueError, match="'huge'; it is tiny, smoke, full or a share"):
        Sizes.named("huge")


def test_a_share_beyond_the_whole_is_named():
    with pytest.raises(ValueError, match=r"\(0, 1\]"):
        Sizes.share(1.5)
