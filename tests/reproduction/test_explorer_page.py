"""explorer.html of a gallery small enough to work out by hand: what it holds, and what a click changes."""

import json
import re

import axe
import chromium
import numpy as np
import pandas as pd
import pytest
import toy_rankings
from PIL import Image

from reid_core.datasets.table import build
from reproduction import explorer, plots, ranklists
from reproduction.report import explorer_page

FACTS = {"data_source": "embedded", "profile": "test", "ap": "step", "seeds": [0, 4]}
METHODS = [("hcn", metric, reranked) for metric in plots.METRICS for reranked in (False, True)]


@pytest.fixture
def rankings(tmp_path, monkeypatch):
    plain = toy_rankings.ORDERS[toy_rankings.PLAIN]
    for model in ("baseline", "hcn"):
        for metric in plots.METRICS:
            for reranked in (False, True):
                orders = toy_rankings.ORDERS.get(ranklists.Method(model, metric, reranked), plain)
                monkeypatch.setitem(toy_rankings.ORDERS, ranklists.Method(model, metric, reranked), orders)
    return toy_rankings.rankings(tmp_path)


@pytest.fixture
def page(rankings, tmp_path):
    """Of two seeds: with the second, HCN alone was trained, whose lists re-ranked are those of the first one plain."""
    reordered = ranklists.Rankings(
        lambda name, method: rankings(name, ranklists.Method(method.model, method.metric, not method.reranked)),
        {"market1501": ("hcn",)},
    )
    path = tmp_path / "explorer.html"
    path.write_text(explorer_page.render({0: rankings, 4: reordered}, FACTS))
    return path


def held(path) -> dict:
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', path.read_text())[1])


def test_the_page_holds_the_lists_frames_and_words_of_the_notebooks_explorer(page, rankings):
    data = held(page)
    assert [one["name"] for one in data["sets"]] == ["market1501", "cuhk03_labeled"]
    market = data["sets"][0]
    methods = market["seeds"]["0"]
    assert len(methods) == 8 and data["rules"] == explorer.RULES
    for method in methods:
        model, metric, *reranked = method["key"].split("-")
        ranking = rankings("market1501", ranklists.Method(model, metric, bool(reranked)))
        assert method["ap"] == pytest.approx(ranking.ap, abs=1e-4)
        for query in (0, 1):
            example = ranklists.example("", query, [(method["title"], ranking)], ignored=True)
            ((words, ranked),) = example["lists"]
            assert words == f"{method['title']}: {method['told'][query]}"
            kept, cameras = method["lists"][query], data["cameras"]
            lines = zip(kept[::3], kept[1::3], kept[2::3], strict=True)
            captions = [(*data["marks"][mark], f"c{cameras[number]} · {words}") for number, mark, words in lines]
            assert captions == [plots.caption(image) for image in ranked]
    (own,) = (one for one in methods if one["key"] == "hcn-xqda-reranked")
    assert own["told"][1] == "AP 0.33, first match at rank 3"
    assert market["queries"][0][:3] == [0, 5, 1]


def test_each_seed_has_the_lists_of_its_own_trainings(page):
    first, other = (held(page)["sets"][0]["seeds"][seed] for seed in ("0", "4"))
    assert [one["key"] for one in other] == [ranklists.Method(*method).key for method in METHODS]
    lists = {one["key"]: one["lists"] for one in first}
    for one in other:
        model, metric, *reranked = one["key"].split("-")
        assert one["lists"] == lists[ranklists.Method(model, metric, not reranked).key]
    assert lists["hcn-xqda"] != lists["hcn-xqda-reranked"]
    assert list(held(page)["sets"][1]["seeds"]) == ["0"]


def test_many_pictures_are_coarser_so_that_the_page_stays_small(rankings, monkeypatch):
    fine = explorer_page.render({0: rankings}, FACTS)
    noise = np.random.default_rng(0).integers(0, 256, (explorer_page.HIGH, explorer_page.WIDE, 3), np.uint8)
    monkeypatch.setattr(explorer_page.images, "decode", lambda *_: noise)
    sizes = []
    for few in (100, 1):
        monkeypatch.setattr(explorer_page, "FEW", few)
        sizes.append(len(explorer_page.render({0: rankings}, FACTS)))
    assert sizes[1] < sizes[0] - 1000 and len(fine) < sizes[0]


def test_the_page_is_one_file_that_loads_nothing(page):
    text = page.read_text()
    sources = set(re.findall(r"(?:src|href)=[\"']?([^\"'> ]+)|url\(([^)]{10})", text))
    assert sources == {("data:,", ""), ("", "data:image")}
    assert text.count("<script") == 2 and "default-src 'none'" in text


def test_a_query_without_a_match_has_no_ap(rankings, tmp_path):
    query = toy_rankings.image_table(tmp_path, "query", [(9, 1), (5, 1)])
    gallery = toy_rankings.image_table(tmp_path, "gallery", toy_rankings.PEOPLE)
    made = ranklists.Matched(np.tile(np.arange(6, dtype=np.float32), (2, 1)), query, gallery, 0.0)
    lone = ranklists.Rankings(lambda *_: ranklists.rank(made), {"market1501": ("hcn",)})
    path = tmp_path / "page.html"
    path.write_text(explorer_page.render({0: lone}, FACTS))
    method = held(path)["sets"][0]["seeds"]["0"][0]
    assert method["ap"][0] is None and method["ap"][1] > 0 and "no match in the gallery" in method["told"][0]


WORDS = {5: "a17", 7: "0007", -1: "Ä b", 0: 'x"</script>'}
ODD = """shops/mein "Laden" ä&<b>'s</b></script>.csv"""


@pytest.fixture
def odd(tmp_path):
    """Rankings of a set with an odd name, whose people and cameras are numbered by text."""
    query, gallery = (toy_rankings.image_table(tmp_path, "query", [(5, 1), (7, 2)]),
                      toy_rankings.image_table(tmp_path, "gallery", toy_rankings.PEOPLE))  # fmt: skip
    for table in (query, gallery):
        table["person_id"] = table["person_id"].map(WORDS)
        table["camera_id"] = table["camera_id"].map({1: "10", 2: "9", 3: "any <i>"})
    distance = np.argsort(toy_rankings.ORDERS[toy_rankings.PLAIN], axis=1).astype(np.float32)
    return ranklists.Rankings(
        lambda *_: ranklists.rank(ranklists.Matched(distance, query, gallery, 0.0)), {ODD: ("hcn",)}
    )


def test_people_cameras_and_sets_may_be_named_by_any_text(odd, tmp_path):
    path = tmp_path / "page.html"
    path.write_text(explorer_page.render({0: odd}, FACTS), encoding="utf-8")
    (one,) = held(path)["sets"]
    assert one["name"] == one["title"] == ODD
    assert [query[:3] for query in one["queries"]] == [[0, "a17", "10"], [1, "0007", "9"]]
    assert set(held(path)["cameras"]) == {"10", "9", "any <i>"}
    assert one["seeds"]["0"][0]["ap"][0] > 0 and path.read_text().count("</script>") == 2
    figure, sentence = explorer.look(odd, explorer.Choice(ODD, toy_rankings.PLAIN, None, "number", 0), FACTS)
    assert sentence == f"{ODD}, query 0: person a17, camera 10."


def test_without_a_finished_training_the_page_says_so():
    text = explorer_page.render({0: ranklists.Rankings(None, {}), 4: ranklists.Rankings(None, {})}, FACTS)
    assert "No training of seed 0, 4 is finished" in text


def test_of_many_queries_it_holds_the_worst_the_best_the_largest_gains_and_some_by_lot():
    draw = np.random.default_rng(5)
    ours, theirs = draw.random((2, 3368))
    chosen = explorer_page.choose(ours, theirs)
    assert chosen == sorted(set(chosen)) and 300 < len(chosen) <= 500
    for values in (ours, -ours, ours - theirs, theirs - ours):
        assert set(np.argsort(values)[:100].tolist()) <= set(chosen)
    extreme = set(np.concatenate([np.argsort(v)[:100] for v in (ours, -ours, ours - theirs, theirs - ours)]).tolist())
    assert 60 <= len(set(chosen) - extreme) <= 100
    assert explorer_page.choose(ours[:1000], theirs[:1000]) == list(range(1000))


@pytest.mark.slow
def test_at_the_size_of_market1501_the_page_stays_below_40_mb(small_data, monkeypatch):
    """The worst that there can be: three models and seeds whose lists share no image but by chance, so that nearly the
    whole gallery is shown, and pictures with noise, which compress badly."""
    draw = np.random.default_rng(2)
    query, gallery = (
        build("market1501", name, draw.integers(1, 751, count), draw.integers(1, 7, count),
              [f"/{name}/{number}.jpg" for number in range(count)])
        for name, count in (("query", 3368), ("gallery", 19732))
    )  # fmt: skip
    shape = (len(query), ranklists.TOP)

    def make(*_):
        hits = pd.array(draw.integers(1, 9, len(query)), "Int64")
        per_query = pd.DataFrame({"ap": draw.random(len(query)), "first_hit": hits, "valid": True})
        index, distance = draw.integers(0, len(gallery), shape), np.sort(draw.random(shape), axis=1)
        none = np.full(shape, "", object)
        return ranklists.Ranking(
            query, gallery, per_query, index, distance, distance < 0.3, none, np.zeros(len(query), int)
        )

    people = [np.asarray(Image.open(path)) for path in (small_data / "Market-1501-v15.09.15").glob("*/*.jpg")]
    size = (explorer_page.WIDE, explorer_page.HIGH)

    def noisy(path, *_):
        person = people[int(re.search(r"\d+", path)[0]) % len(people)]
        noise = draw.normal(0, 25, person.shape)
        return np.asarray(Image.fromarray(np.clip(person + noise, 0, 255).astype(np.uint8)).resize(size))

    monkeypatch.setattr(explorer_page.images, "decode", noisy)
    models = {"market1501": ("baseline", "hcn", "combined")}
    page = explorer_page.render({seed: ranklists.Rankings(make, models) for seed in range(3)}, FACTS)
    (one,) = json.loads(re.search(r'id="data">(.*?)</script>', page)[1])["sets"]
    assert one["count"] == 3368 and 300 < len(one["queries"]) <= 500
    assert {len(methods) for methods in one["seeds"].values()} == {12}
    assert page.count("data:image/webp") > 19, "of 1,024 pictures each: nearly the whole gallery"
    assert len(page.encode()) < 40e6


@pytest.mark.slow
def test_in_chromium_a_click_changes_the_query_and_the_address_leads_to_it(page, rankings):
    browser = chromium.find()
    if browser is None:
        pytest.skip("there is no Chromium here")
    says, lists = "document.getElementById('says').textContent", "[...document.querySelectorAll('#lists h2')]"
    with chromium.page(browser) as view:
        for width, dark in ((360, False), (800, True), (1400, False)):
            view.look(width, dark=dark)
            view.open(page.as_uri())
            assert "query 0: person 5" in view.evaluate(says)
            assert view.evaluate("document.documentElement.scrollWidth") <= width
        click = """const start = performance.now();
            document.querySelector("circle[data-place='1']").dispatchEvent(new MouseEvent("click", {bubbles: true}));
            return performance.now() - start"""
        assert view.evaluate(f"(() => {{ {click} }})()") < 100
        assert "query 1: person 7" in view.evaluate(says)
        titles = view.evaluate(f"{lists}.map(title => title.textContent)")
        assert titles[0] == "HCN, XQDA, re-ranked: AP 0.33, first match at rank 3" and len(titles) == 2
        images = ranklists.shown(rankings("market1501", toy_rankings.AGAIN), 1, ignored=True)
        below = "[...document.querySelector('.list').querySelectorAll('small')].map(one => one.textContent)"
        assert view.evaluate(below) == ["c1", *(plots.caption(image)[2] for image in images)]
        address = view.evaluate("location.href")
        assert (
            "set=market1501&seed=0&" in address and "upper=hcn-xqda-reranked" in address and address.endswith("query=1")
        )
        view.evaluate("document.getElementById('next').click()")
        assert "query 0" in view.evaluate(says)
        view.evaluate("location.hash = '#set=market1501&upper=hcn-xqda&lower=none&query=1'")
        view.until(f"{says}.includes('query 1') && {lists}.length === 1", 5)
        view.evaluate("location.hash = '#set=market1501&query=7'")
        view.until(f"{says}.startsWith('There is no query 7 here: Market-1501 has the queries 0 to 1.')", 5)
        choose = """const select = document.querySelector("[name=where]"); select.value = "loss";
            select.dispatchEvent(new Event("change", {bubbles: true}))"""
        view.evaluate("location.hash = '#set=market1501&upper=hcn-xqda-reranked&lower=baseline-xqda-reranked&query=0'")
        view.until(f"{lists}.length === 2", 5)
        view.evaluate(f"(() => {{ {choose} }})()")
        assert "query 1" in view.evaluate(says) and "1 of 1" in view.evaluate(says)
        view.evaluate("location.hash = '#set=market1501&seed=4&upper=hcn-xqda&lower=none&query=1'")
        view.until(f"{lists}.length === 1 && {lists}[0].textContent.includes('AP 0.33')", 5)
        assert view.evaluate("document.querySelector('[name=seed]').value") == "4"
        assert (
            view.evaluate("getComputedStyle(document.querySelector('#lists h2')).borderLeftColor") == "rgb(213, 94, 0)"
        )
        view.evaluate("location.hash = '#set=market1501&query=0'")
        view.until(f"{says}.includes('query 0')", 5)
        asked = [url.partition("#")[0] for url in view.requested if not url.startswith("data:")]
        assert set(asked) == {page.as_uri()} and not view.errors


@pytest.mark.slow
def test_in_chromium_odd_names_are_offered_and_led_to_as_they_are(odd, tmp_path):
    browser = chromium.find()
    if browser is None:
        pytest.skip("there is no Chromium here")
    path, other = tmp_path / "odd #1 100% ä.html", tmp_path / "other.html"
    other.write_text("<p>another page</p>")
    path.write_text(explorer_page.render({0: odd}, FACTS), encoding="utf-8")
    says = "document.getElementById('says').textContent"
    offered = "[...document.querySelector('[name=camera]').options].map(one => one.value)"
    with chromium.page(browser) as view:
        view.open(path.as_uri())
        assert f"{ODD}, query 0: person a17, camera 10" in view.evaluate(says)
        assert view.evaluate(offered) == ["any", "9", "10"], "in the order of numbers"
        address = view.evaluate("document.getElementById('next').click(); location.href")
        assert "query 1: person 0007, camera 9" in view.evaluate(says) and address.endswith("query=1")
        choose = """const select = document.querySelector("[name=camera]"); select.value = "10";
            select.dispatchEvent(new Event("change", {bubbles: true}))"""
        view.evaluate(f"(() => {{ {choose} }})()")
        assert "query 0" in view.evaluate(says) and "1 of 1" in view.evaluate(says)
        view.open(other.as_uri())
        view.open(address)
        assert "query 1: person 0007" in view.evaluate(says) and not view.errors


@pytest.mark.slow
def test_in_chromium_the_page_is_used_by_keyboard_alone_and_prints_its_pictures(page, tmp_path):
    browser = chromium.find()
    if browser is None:
        pytest.skip("there is no Chromium here")
    says, named = (
        "document.getElementById('says').textContent",
        "document.activeElement.name || document.activeElement.id",
    )
    with chromium.page(browser) as view:
        view.look(1400)
        view.open(page.as_uri())
        met = []
        for _ in range(10):
            view.press("Tab")
            met.append(view.evaluate(named))
        assert met == ["set", "seed", "upper", "lower", "camera", "where", "rule", "before", "next", "query"]
        view.evaluate("document.getElementById('next').focus()")
        view.press("Enter")
        assert "query 1" in view.evaluate(says) and view.evaluate(named) == "next"
        view.evaluate("document.querySelector('[name=upper]').focus()")
        view.press("Home")
        view.until(
            "document.querySelector('#lists h2').textContent.startsWith('Baseline (backbone alone), Euclidean:')", 5
        )
        assert view.pdf(tmp_path / "page.pdf").stat().st_size > 10_000
        view.call("Emulation.setEmulatedMedia", media="print")
        assert view.evaluate("getComputedStyle(document.querySelector('.picture')).printColorAdjust") == "exact"
        assert view.evaluate("getComputedStyle(document.getElementById('choices')).display") == "none"
        assert view.evaluate("document.getElementById('lists').getBoundingClientRect().height") > 200


@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True])
def test_in_chromium_the_page_keeps_nothing_from_anyone(page, dark):
    browser = chromium.find()
    if browser is None:
        pytest.skip("there is no Chromium here")
    script = axe.source()
    with chromium.page(browser) as view:
        view.look(360 if dark else 1400, dark=dark)
        view.open(page.as_uri())
        assert axe.serious(view, script) == []
        view.evaluate("document.body.append(document.createElement('select'))")
        assert [rule for _, rule, _ in axe.serious(view, script)] == ["select-name"], "it would be found"
