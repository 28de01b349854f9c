"""Intervals of scores: by hand, against a naive bootstrap, and how often they decide nothing."""

import numpy as np
import pandas as pd
import pytest

from reid_core import evaluation
from reproduction import intervals


def rows(values, queries):
    """Rows of `by_person` of (seeds, people) mean scores and (people,) queries."""
    return pd.concat([
        pd.DataFrame({"seed": seed, "person_id": np.arange(1, len(queries) + 1), "queries": queries,
                      "rank1": line * queries, "mAP": line * queries})
        for seed, line in enumerate(np.atleast_2d(values))
    ], ignore_index=True)  # fmt: skip


def simulated(rng, people, seeds, truth, *, person, training, both):
    """Two methods on the same people: deviations of people, of trainings, and of one person in one training."""
    queries = rng.integers(1, 4, people)
    difference = rng.normal(0, person, people) + truth
    sides = [rng.normal(0, training, (seeds, 1)) + rng.normal(0, both, (seeds, people)) + 0.5 for _ in range(2)]
    return (sides[0] + difference) * queries, sides[1] * queries, queries


def drawn(rng):
    """Rows of two methods, three seeds, 50 people."""
    ours, theirs, queries = simulated(rng, 50, 3, 0.1, person=0.3, training=0.05, both=0.1)
    return rows(ours / queries, queries), rows(theirs / queries, queries)


def test_sums_by_person_are_those_of_their_queries():
    per_query = pd.DataFrame({"ap": [0.5, 1.0, 0.0], "first_hit": pd.array([2, 1, pd.NA], dtype="Int64")})
    found = intervals.by_person(per_query, np.array([9, 4, 9]), seed=3)
    assert found.values.tolist() == [[3, 4, 1, 1.0, 1.0], [3, 9, 2, 0.0, 0.5]]


def test_the_value_is_the_evaluations_own_score():
    rng = np.random.default_rng(0)
    people = np.repeat(np.arange(1, 9), 2)
    query = pd.DataFrame({"person_id": people, "camera_id": 1})
    gallery = pd.DataFrame({"person_id": np.tile(np.arange(1, 9), 3), "camera_id": 2})
    result = evaluation.evaluate(rng.random((16, 24)), query, gallery)
    sums = intervals.by_person(result.per_query, people, 0)
    assert intervals.interval(sums, "rank1").value == pytest.approx(100 * result.rank1)
    assert intervals.interval(sums, "mAP").value == pytest.approx(100 * result.mAP)


def test_one_training_a_side_is_a_bootstrap_over_people():
    """Against a naive loop that draws people with replacement, both sides alike."""
    rng = np.random.default_rng(1)
    queries = rng.integers(1, 4, 40)
    ours, theirs = rng.random(40), rng.random(40)
    found = intervals.interval(rows(ours, queries), "mAP", rows(theirs, queries))
    draws = []
    for _ in range(4000):
        drawn = rng.integers(0, 40, 40)
        draws.append(((ours - theirs) * queries)[drawn].sum() / queries[drawn].sum())
    assert found.value == pytest.approx(100 * np.average(ours - theirs, weights=queries))
    assert (found.high - found.low) / 2 == pytest.approx(100 * 2.023 * np.std(draws), rel=0.06)
    assert (found.people, found.seeds) == (40, 1)


def test_seeds_alone_give_welchs_interval():
    """All people alike: nothing is left to the draw of people, and the textbook's interval comes out."""
    queries = np.ones(30, int)
    ours, theirs = (np.repeat(np.array(means)[:, None], 30, axis=1) for means in ([0.5, 0.6, 0.7], [0.3, 0.4, 0.2]))
    found = intervals.interval(rows(ours, queries), "rank1", rows(theirs, queries))
    assert found.value == pytest.approx(30.0)
    assert found.high - found.value == pytest.approx(100 * 2.776445 * np.sqrt(2 * 0.01 / 3), rel=1e-5)


def test_the_same_rows_give_the_same_bits_in_any_order():
    rng = np.random.default_rng(2)
    ours, theirs = drawn(rng)
    again = intervals.interval(ours.sample(frac=1, random_state=0), "mAP", theirs.iloc[::-1])
    assert intervals.interval(ours, "mAP", theirs) == again


def test_a_difference_turned_round_is_its_negative():
    rng = np.random.default_rng(3)
    ours, theirs = drawn(rng)
    one, other = intervals.interval(ours, "mAP", theirs), intervals.interval(theirs, "mAP", ours)
    assert (one.value, one.low, one.high) == pytest.approx((-other.value, -other.high, -other.low))


@pytest.mark.parametrize("seeds, training", [(1, 0.0), (3, 0.0), (3, 0.02), (3, 0.06)])
@pytest.mark.parametrize("people", [57, 700])
def test_without_a_true_difference_one_in_twenty_is_decided(people, seeds, training):
    """At most 5%, within the error of 400 simulations (a deviation of 1.1 points; the bound is 2.5 of them)."""
    rng = np.random.default_rng(people + seeds)
    decided = 0
    for _ in range(400):
        ours, theirs, queries = simulated(rng, people, seeds, 0.0, person=0.3, training=training, both=0.2)
        decided += intervals.estimate(ours, theirs, queries=queries).above() is not None
    assert decided / 400 <= 0.05 + 2.5 * np.sqrt(0.05 * 0.95 / 400)


@pytest.mark.parametrize("seeds, training", [(1, 0.0), (3, 0.02), (3, 0.06)])
def test_a_difference_of_three_standard_deviations_is_found(seeds, training):
    """Of the difference of one training a side: people and trainings together."""
    rng = np.random.default_rng(7)
    uneven = 7 / 6  # 1 to 3 queries a person: mean square over squared mean
    spread = np.sqrt(uneven * (0.3**2 + 2 * 0.2**2) / 57 + 2 * training**2)
    found = []
    for _ in range(200):
        ours, theirs, queries = simulated(rng, 57, seeds, 3 * spread, person=0.3, training=training, both=0.2)
        found.append(intervals.estimate(ours, theirs, queries=queries).above())
    assert np.mean([answer is True for answer in found]) >= 0.8 and False not in found


def test_what_cannot_be_compared_is_refused():
    ours = rows(np.full((2, 5), 0.5), np.ones(5, int))
    with pytest.raises(ValueError, match="their test people or queries differ"):
        intervals.interval(ours, "mAP", rows(np.full((2, 5), 0.5), np.full(5, 2)))
    with pytest.raises(ValueError, match="a person occurs twice"):
        intervals.interval(pd.concat([ours, ours]), "mAP")
    with pytest.raises(ValueError, match="scored on other people"):
        intervals.interval(ours.iloc[:-1], "mAP")
    with pytest.raises(ValueError, match="score is 'rank5'"):
        intervals.interval(ours, "rank5")


def test_a_side_that_draws_nothing_has_no_seeds_and_one_training_hides_its_own_spread_alone():
    rng = np.random.default_rng(5)
    ours, theirs = drawn(rng)
    fixed = theirs[theirs["seed"] == 0]
    three, one = (intervals.interval(ours, "mAP", fixed, random=(True, side)) for side in (False, True))
    assert (three.seeds, one.seeds) == (3, 1)
    assert (three.low, three.high) == (one.low, one.high), "the three trainings' spread counts beside either"
    people_alone = intervals.interval(ours.groupby("person_id", as_index=False).mean().assign(seed=0), "mAP", fixed)
    assert three.high - three.low > people_alone.high - people_alone.low
    assert intervals.interval(fixed, "mAP", random=(False,)).seeds == 0


def test_no_end_is_beyond_what_a_score_or_a_difference_can_be():
    """Four people, of whom one is missed: the symmetric interval would end above 100 per cent."""
    queries = np.ones(4, int)
    high, low = rows(np.array([1, 1, 1, 0.8]), queries), rows(np.array([0, 0, 0, 0.2]), queries)
    above, below = (intervals.interval(score, "mAP", least=0.0) for score in (high, low))
    assert 0 < above.low < above.value < above.high == 100 and 0 == below.low < below.value < below.high < 100
    apart = intervals.interval(high, "mAP", low)
    assert apart.value == pytest.approx(90) and apart.high == 100 and 0 < apart.low < 90
    assert intervals.interval(low, "mAP", high).low == -100
    gaps = low.assign(mAP=low["mAP"] - high["mAP"])
    assert intervals.interval(gaps, "mAP").low == -100
    alone = intervals.interval(rows(np.array([1.0]), np.ones(1, int)), "mAP", least=0.0)
    assert (alone.value, alone.low, alone.high) == (100, 0, 100), "of other people nothing is known"
    assert intervals.saving(np.array([0.0, 1.0]), np.array([0.5, 0.2])).low < -100, "which has no such end"
