"""The explorer of rank lists on a gallery small enough to work out by hand."""

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pytest
import toy_rankings
from toy_rankings import AGAIN, OTHER, PEOPLE, PLAIN, image_table

from reid_core.matching import Matched
from reproduction import explorer, plots, ranklists
from reproduction.explorer import Choice

FACTS = {"data_source": "embedded", "profile": "test"}


@pytest.fixture
def rankings(tmp_path):
    return toy_rankings.rankings(tmp_path)


@pytest.mark.parametrize(
    ("rule", "number", "query"),
    [
        ("number", 1, 1),
        ("worst", 1, 1),  # AP 1/2 of query 1 (its match is second) against 1 of query 0
        ("worst", 2, 0),
        ("gain", 1, 0),  # upper minus lower: 1 - (1/3 + 2/4)/2 for query 0, 1/2 - 1 for query 1
        ("loss", 1, 1),
        ("reranking", 1, 0),  # +5/12 for query 0, none for query 1
        ("reranking", 2, 1),
    ],
)
def test_the_query_that_each_rule_means(rankings, rule, number, query):
    assert explorer.find(rankings, Choice("market1501", AGAIN, OTHER, rule, number)) == query


def test_a_query_without_a_match_comes_last_by_every_rule(tmp_path):
    query = image_table(tmp_path, "query", [(9, 1), (5, 1)])
    gallery = image_table(tmp_path, "gallery", PEOPLE)
    made = Matched(np.tile(np.arange(6, dtype=np.float32), (2, 1)), query, gallery, 0.0)
    rankings = ranklists.Rankings(lambda *_: ranklists.rank(made), {"market1501": ("hcn",)})
    assert explorer.find(rankings, Choice("market1501", AGAIN, None, "worst", 1)) == 1
    figure, _ = explorer.look(rankings, Choice("market1501", AGAIN, None, "worst", 2), FACTS)
    assert any("no match in the gallery" in text.get_text() for text in figure.axes[0].texts)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rule": "number", "number": 2}, "There is no query 2: Market-1501 has the queries 0 to 1."),
        ({"rule": "number", "number": -1}, "There is no query -1"),
        ({"rule": "worst", "number": 0}, "There is no place 0: Market-1501 has the places 1 to 2."),
        ({"rule": "gain", "lower": None}, "choose a lower list to compare with"),
    ],
)
def test_what_cannot_be_shown_is_said(rankings, changes, message):
    with pytest.raises(ValueError, match=message):
        explorer.find(rankings, Choice(**{"set": "market1501", "upper": AGAIN, "lower": OTHER} | changes))


def test_the_picture_has_two_lists_with_frames_signs_cameras_and_distances(rankings):
    figure, sentence = explorer.look(rankings, Choice("market1501", PLAIN, OTHER, "number", 0), FACTS)
    assert sentence.startswith("Market-1501, query 0: person 5, camera 1. Upper minus lower AP: +0.17")
    (axis,) = figure.axes
    upper, lower = axis.collections
    named = {"query": plots.QUERY_COLOUR, "grey": plots.JUNK_COLOUR, "✓": plots.RIGHT, "✗": plots.WRONG}
    for frames, kinds in (
        (upper, ["query", "grey", "grey", "✗", "✓", "✓", "✗"]),
        (lower, ["query", "✗", "✗", "grey", "grey", "✓", "✓"]),
    ):
        colours = [matplotlib.colors.to_hex(colour) for colour in frames.get_edgecolors()]
        assert colours == [named[kind].lower() for kind in kinds]
    texts = [text.get_text() for text in axis.texts]
    for expected in ("1 ✗", "2 ✓", "3 ✓", "junk", "same cam.", "c3 · 4"):
        assert expected in texts
    assert "HCN, XQDA: AP 0.58, first match at rank 2" in texts
    assert texts[-1].startswith("embedded (rendered) data · profile test · Market-1501")
    canvas = axis.images[0].get_array()
    pixel = canvas[64, plots.SIDE + 32]
    assert pixel.tolist() == [5, 60, 250], "the query's own picture stands first"
    first_match = canvas[64, plots.SIDE + plots.GAP + 4 * plots.PITCH + 32]
    assert first_match.tolist() == [45, 60, 250], "gallery image 1 stands fourth"


def test_the_explorer_draws_with_the_function_of_the_static_figure(rankings, monkeypatch):
    drawn = []
    monkeypatch.setattr(plots, "rank_lists", lambda *a, **k: drawn.append(a) or original(*a, **k))
    explorer.look(rankings, Choice("market1501", AGAIN, OTHER), FACTS)
    assert len(drawn) == 1
    shown = drawn[0][0][0]["lists"][0][1]
    expected = ranklists.example("", 0, [("", rankings("market1501", AGAIN))], ignored=True)["lists"][0][1]
    assert shown == expected and len(shown) == 6


original = plots.rank_lists


class Screen:
    """What would be displayed: the last picture's sentence, and how often it was drawn."""

    def __init__(self):
        self.count, self.bundles = 0, []

    def display(self, thing, raw=False, display_id=None):
        if raw:
            self.bundles.append(thing)
        else:
            self.update(thing)
        return self

    def update(self, picture):
        self.count, self.sentence, self.png = self.count + 1, picture.alt, picture.data


@pytest.fixture
def shown(rankings, monkeypatch):
    screen = Screen()
    monkeypatch.setattr(explorer, "display", screen.display)
    opened = explorer.Explorer(rankings, FACTS, Choice("market1501", AGAIN, OTHER, "gain", 1))
    opened.show()
    return opened, screen


def test_each_change_of_a_control_draws_once(shown):
    opened, screen = shown
    assert screen.count == 1 and "query 0:" in screen.sentence and screen.png.startswith(b"\x89PNG")
    opened.rule.value = "worst"
    assert screen.count == 2 and "query 1:" in screen.sentence
    opened.on.click()
    assert screen.count == 3 and "query 0:" in screen.sentence and opened.number.value == 2
    opened.rule.value = "number"
    assert screen.count == 4 and opened.number.value == 0, "the number starts anew with the rule"
    opened.upper.reranked.value = False
    assert screen.count == 5 and opened.choice.upper == PLAIN
    opened.passed_over.value = False
    assert screen.count == 6 and not opened.choice.passed_over
    opened.lower.model.value = None
    assert screen.count == 7 and opened.choice.lower is None


def test_a_change_while_a_picture_is_made_is_what_is_shown_in_the_end(shown, monkeypatch):
    opened, screen = shown
    made = explorer.look

    def busy(rankings, choice, facts):
        if choice.rule == "gain":
            opened.rule.value = "worst"  # the kernel takes the message of the page meanwhile
        return made(rankings, choice, facts)

    monkeypatch.setattr(explorer, "look", busy)
    opened.upper.reranked.value = False
    assert opened.rule.value == "worst" and "worst AP" in screen.sentence and "worst AP" in opened.message.value


def test_a_wrong_number_is_said_and_the_picture_stays(shown):
    opened, screen = shown
    opened.number.value = 9
    assert screen.count == 1 and "There is no place 9" in opened.message.value
    opened.number.value = 2
    assert screen.count == 2 and "There is no" not in opened.message.value


def test_another_set_offers_its_own_models(shown, rankings):
    opened, screen = shown
    opened.set.value = "cuhk03_labeled"
    assert [value for _, value in opened.upper.model.options] == ["hcn"]
    assert [value for _, value in opened.lower.model.options] == ["hcn", None]
    assert screen.count == 2 and "CUHK03 labeled" in screen.sentence
    assert rankings.made[-1] == ("cuhk03_labeled", AGAIN)


def test_work_is_announced_and_its_failure_said(rankings, monkeypatch):
    screen = Screen()
    monkeypatch.setattr(explorer, "display", screen.display)
    said = []

    def make(name, method):
        said.append(opened.message.value)
        if method.model == "baseline":
            raise FileNotFoundError("this run is not finished")
        return rankings(name, method)

    empty = ranklists.Rankings(make, rankings.models)
    opened = explorer.Explorer(empty, FACTS, Choice("market1501", AGAIN, None, "worst", 1))
    opened.show()
    assert "Working on HCN, XQDA, re-ranked on Market-1501" in said[0] and screen.count == 1
    opened.lower.model.value = "baseline"
    assert "this run is not finished" in opened.message.value


def test_the_controls_carry_a_text_for_where_there_is_no_kernel(shown):
    _, screen = shown
    assert screen.bundles[0]["text/plain"] == explorer.FALLBACK
    assert "application/vnd.jupyter.widget-view+json" in screen.bundles[0]
