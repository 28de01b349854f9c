import json
import re
import shutil
import subprocess
import tomllib
from html.parser import HTMLParser
from urllib.parse import unquote

import axe
import chromium
import pandas as pd
import pytest
import synthetic_results

from reproduction import intervals, paper, report, results_folder, sidecar, tables
from reproduction.claims import CLAIMS
from reproduction.report import further, queries
from reproduction.tables import SCORES
from reproduction.words import number

LOADED = {"img": "src", "script": "src", "iframe": "src", "source": "src", "object": "data", "link": "href"}


class Reader(HTMLParser):
    """Text of a page outside its style and script, its elements' ids, its links, and what it would load."""

    def __init__(self, page: str):
        super().__init__()
        self.words, self.ids, self.links, self.loads, self.images = [], [], [], [], []
        self._inside = ""
        self.feed(page)
        self.text = re.sub(r"\s+", " ", "".join(self.words))

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self._inside = tag
        self.ids += [found["id"]] if "id" in found else []
        self.links += [found["href"]] if tag in ("a", "use") else []
        self.loads += [found[LOADED[tag]]] if LOADED.get(tag) in found else []
        self.images += [found["src"]] if tag == "img" else []

    def handle_data(self, data):
        self.words += [data] if self._inside not in ("style", "script") else []


def plain(words: str) -> str:
    """Words without the difference between typewriter and typeset characters."""
    return words.translate(str.maketrans("‘’−", "''-"))


@pytest.fixture(scope="module")
def embedded(tmp_path_factory):
    folder = synthetic_results.make(tmp_path_factory.mktemp("embedded") / "smoke")
    return report.write(folder)


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    folder = tmp_path_factory.mktemp("official") / "paper"
    synthetic_results.make(folder, data_source="official", profile="paper", seeds=(0, 1, 2))
    return report.write(folder)


@pytest.fixture
def results(embedded, tmp_path):
    """A results folder to be changed by one test."""
    folder = shutil.copytree(embedded.parent, tmp_path / "smoke")
    (folder / "report.html").unlink()
    return folder


def test_a_row_of_the_literature_says_how_faithful_it_is_and_every_row_what_it_took(results):
    table = pd.read_csv(results / "table3.csv").astype({"faithful": object})
    gated = table["method"] == "Gated [21]"
    table.loc[gated, "faithful"] = "re-created"
    table.to_csv(results / "table3.csv", index=False)
    page = report.write(results).read_text(encoding="utf-8")
    assert "<small>re-created</small></th>" in page and "the printed figure is no target" in page
    assert "<small>adapted</small>" not in page
    assert "Table 3, in seconds" in page and "40.0" in page


def test_what_the_heads_know_of_places_is_shown_to_the_last_digit(results):
    facts = {"data_source": "embedded", "profile": "smoke", "ap": "trapezoid"}
    line = {"setting": "a ReLU after merging", "head": "c1", "form": "plain", "formula_difference": "7.4e-16",
            "shuffle_difference": "0.024", "people_changed": 6.25, "images": 16}  # fmt: skip
    tables.save(pd.DataFrame([line]).assign(**facts), results / "pooling_demonstration.csv", **facts)
    page = report.write(results).read_text(encoding="utf-8")
    section = page[page.index('id="about-pooling"') :].partition("</section>")[0]
    for words in ("A mean(R3) + B mean(R5) + c", "a ReLU after merging", ">7.4e-16<", ">0.024<", ">6<", ">16<"):
        assert words in section, words


@pytest.mark.parametrize("which", ["embedded", "official"])
def test_links_resolve_and_nothing_is_loaded_from_elsewhere(which, request):
    path = request.getfixturevalue(which)
    text = path.read_text(encoding="utf-8")
    page = Reader(text)
    assert len(page.ids) == len(set(page.ids))
    assert len(page.links) > 60
    for link in page.links:
        if link.startswith("#"):
            assert link[1:] in page.ids
        else:
            assert (path.parent / unquote(link)).exists(), link
    assert all(address.startswith("data:") for address in page.loads)
    assert "@import" not in text and "url(" not in text
    assert "default-src 'none'" in text


def test_the_verdicts_come_first_and_every_claim_is_there(embedded):
    text = plain(Reader(embedded.read_text()).text)
    claims = pd.read_csv(embedded.parent / "claims.csv").astype(object).fillna("")
    places = [text.index(claim.text) for claim in CLAIMS]
    assert places == sorted(places) and places[-1] < text.index("Table 1. Data sets")
    for line in claims.itertuples():
        verdict = re.split(r" \(|(?<!trainings): ", line.verdict.rstrip(")"), maxsplit=1)
        for words in (line.paper, line.ours, line.threshold, line.confound, *verdict):
            assert plain(words) in text


def test_every_row_of_the_tables_is_there_with_paper_ours_and_difference(embedded):
    text = plain(Reader(embedded.read_text()).text)
    for table_number, digits in ((2, 1), (3, 2)):
        start = text.index(f"Table {table_number}. Rank-1")
        part = re.sub(r"\s", "", text[start : text.index(f"Table {table_number + 1}. ", start)])
        table = pd.read_csv(embedded.parent / f"table{table_number}.csv")
        assert list(table["method"].unique()) == [row.method for row in paper.rows(table_number)]
        for _, line in table[table["status"] == "measured"].iterrows():
            shown = [number(line[f"paper_{score}"], digits) for score in SCORES]
            for score in SCORES:
                low, high = (number(line[f"ours_{score}_{end}"], 1) for end in ("low", "high"))
                shown += [number(line[f"ours_{score}"], digits), f"{low}–{high}"]
            shown += [number(line[f"{score}_difference"], digits, signed=True) for score in SCORES]
            assert plain("".join(shown)) in part, (line["method"], shown)
        for note in table["note"].dropna().unique():
            assert re.sub(r"\s", "", note) in part
        for method in table.loc[table["status"] != "measured", "method"].unique():
            assert re.search(re.escape(re.sub(r"\s", "", method)) + r"[\d,.]*notmeasuredyet", part)


def test_the_data_source_is_said_loudly(embedded, official):
    head = Reader(embedded.read_text()).text
    assert "rendered, not the paper’s data" in head[: head.index("What the paper claims")]
    assert "the kit works, not what the paper’s numbers are" in head
    other = Reader(official.read_text()).text
    assert "rendered" not in other and "Official data" in other[: other.index("What the paper claims")]


def test_no_picture_of_a_person_on_official_data(official):
    for stem in ("figure5", "people"):  # not even one that lies in the wrong folder
        kept = official.parent.parent / "private" / "paper" / f"{stem}.png"
        (official.parent / f"{stem}.png").write_bytes(kept.read_bytes())
    page = Reader(report.write(official.parent).read_text())
    assert len(page.images) == 8 and all(image.startswith("data:image/svg+xml") for image in page.images)
    assert "../private/paper/figure5.png" in page.links and "../private/paper/people.png" in page.links
    assert "../private/paper/notebooks/09_claims.ipynb" in page.links


def test_embedded_people_are_shown(embedded):
    images = Reader(embedded.read_text()).images
    assert sum(image.startswith("data:image/png") for image in images) == 2


def test_every_score_has_its_interval_and_the_seeds_are_said(official):
    text = Reader(official.read_text()).text
    row = pd.read_csv(official.parent / "table3.csv").set_index("method").loc["HCN+re-rank"]
    shown = "".join(f"{row[f'ours_{s}']:.2f}{row[f'ours_{s}_low']:.1f}–{row[f'ours_{s}_high']:.1f}" for s in SCORES)
    assert shown in re.sub(r"\s", "", text) and "132 queries of 66 people, seeds 0, 1, 2" in text
    assert text.count("hcn-combined-seed2") >= 2


def test_the_head_says_what_an_interval_covers(embedded, official):
    one, several = (Reader(page.read_text()).text for page in (embedded, official))
    assert "covers other test people only: with one seed nothing is known of other trainings" in one
    assert "other test people and, where a row has several seeds, other trainings." in several
    table = pd.concat([pd.read_csv(embedded.parent / f"table{number}.csv") for number in (2, 3)]).query("people > 0")
    half = ((table["ours_rank1_high"] - table["ours_rank1_low"]) / 2).median()
    assert f"Here 66 people a set are tested, and a rank-1 is known to ±{half:.1f} points." in one
    for text in (one, several):
        assert "+0.6 rank-1 and +0.9 mAP on CUHK03 labeled cannot be decided" in text and "trains in fp32" in text


def test_a_difference_that_decides_stands_beside_its_claim(results):
    table = pd.read_csv(results / "claims.csv", dtype={"seeds": str})
    decided = {"difference": 4.06, "low": -3.2, "high": 11.3, "people": 57, "seeds": "0 1 2"}
    table["difference"] = float("nan")  # of the other claims
    table.loc[table["claim"] == "hcn_beats_baseline_cuhk03_labeled", list(decided)] = list(decided.values())
    table.to_csv(results / "claims.csv", index=False)
    text = Reader(report.write(results).read_text()).text
    assert text.count("Difference that decides") == 1
    assert "+4.1 points (95%: −3.2 to +11.3); 57 people, seeds 0 1 2" in text


def test_what_is_absent_is_said(results):
    for path in [*results.glob("table*.csv"), *results.glob("figure*.*"), *results.glob("con*.csv")]:
        path.unlink()
    (results / "cross_dataset.csv").unlink()
    (results / "people.png").unlink()
    (results / "notebooks" / "07_figure4_ap_and_cmc.ipynb").unlink()
    for run in results.glob("runs/hcn*/run.json"):
        run.unlink()
    text = Reader(report.write(results).read_text()).text
    for what in (*(f"Table {n}" for n in (1, 2, 3, 4)), "Figure 3", "Figure 4", "Figure 5", "Sample images"):
        assert f"{what} is not there yet." in text
    assert "convergence.csv, the numbers to Figure 3, is not there yet" in text
    assert "cross_dataset.csv is not there yet" in text
    assert "07_figure4_ap_and_cmc not executed" in text
    assert "hcn-market1501-seed0not measured yet" in text


def test_a_further_section_is_one_entry(results, monkeypatch):
    columns = (further.Column("choice", "Choice"), further.Column("mAP", "mAP", 1, signed=True))
    drawn = ({"stem": "figure3", "title": "The spread", "caption": "Each choice."},)
    made = further.Section("spread", "What is left open", "In points.", "spread", columns, drawn)
    absent = further.Section("later", "Not yet", "Words.", "later", columns)
    elsewhere = further.Section("none", "Of no notebook", "Words.", "nowhere", columns)
    monkeypatch.setattr(further, "SECTIONS", (made, absent, elsewhere))
    known = further.notebooks.names()
    monkeypatch.setattr(further.notebooks, "names", lambda: known)
    more = [results_folder.Made(notebook, stem, stem) for notebook, stem in
            (("09_claims", "spread"), ("09_claims", "later"), ("99_none", "nowhere"))]  # fmt: skip
    monkeypatch.setattr(results_folder, "MADE", (*results_folder.MADE, *more))
    facts = {"data_source": "embedded", "profile": "smoke"}
    rows = pd.DataFrame({"choice": ["as <b>it</b> is", "set Jaccard"], "mAP": [0.0, -2.46]}).assign(**facts)
    tables.save(rows, results / "spread.csv", **facts)
    page = Reader(report.write(results).read_text())
    assert {"about-spread", "about-later"} <= set(page.ids) and "about-none" not in page.ids
    assert "#about-spread" in page.links and "spread.csv" in page.links
    assert "as <b>it</b> is0.0" in page.text and "set Jaccard−2.5" in page.text
    part = page.text[page.text.index("In points.") :]
    assert "The spread. Each choice." in part and "The table is not there yet." in part


def test_a_result_that_no_section_has_words_for_is_shown_as_it_is(results, monkeypatch):
    """One entry of MADE, beside the notebook's cell, is all that a new result takes."""
    new = results_folder.Made("09_claims", "new_numbers", "new-numbers", (".csv", ".png", ".svg"))
    monkeypatch.setattr(results_folder, "MADE", (*results_folder.MADE, new))
    absent = Reader(report.write(results).read_text())
    assert "about-new-numbers" in absent.ids and "#about-new-numbers" in absent.links
    facts = {"data_source": "embedded", "profile": "smoke"}
    rows = pd.DataFrame({"choice": ["k1=30"], "mAP": [-2.456], "queries": [132]}).assign(**facts)
    tables.save(rows, results / "new_numbers.csv", **facts)
    shutil.copy(results / "figure3.svg", results / "new_numbers.svg")
    page = Reader(report.write(results).read_text())
    assert "New numbers" in page.text and "choicemAPqueries k1=30−2.46132" in page.text
    assert "new_numbers.csv" in page.links and len(page.images) == len(absent.images) + 1


def test_a_run_that_was_stopped_is_not_finished_and_its_time_counts_for_nothing(results):
    name = "hcn-market1501-seed0"
    before = Reader(report.write(results).read_text()).text
    path = results / "runs" / name / "run.json"
    record = json.loads(path.read_text())
    kept = {key: record[key] for key in ("model", "num_classes", "images", "data_digest", "recipe", "versions")}
    path.write_text(json.dumps(kept | {"finished": False}))  # as a training writes it at its start
    after = Reader(report.write(results).read_text()).text
    assert re.search(rf"{name} ?60650", before) and re.search(rf"{name} ?not finished", after)
    found = [re.search(r"Training time(\d+) min (\d+) s in all", text) for text in (before, after)]
    times = [60 * int(minutes) + int(seconds) for minutes, seconds in (one.groups() for one in found)]
    assert times[0] - times[1] == pytest.approx(record["seconds"], abs=1)


def test_what_weights_a_run_started_from_is_said_by_digest(results):
    path = results / "runs" / "baseline-market1501-seed0" / "run.json"
    record = json.loads(path.read_text())
    recipe = record["recipe"] | {"weights": "imagenet"}
    path.write_text(json.dumps(record | {"recipe": recipe, "initial_weights_digest": "0676ba61b6795bbe"}))
    assert "imagenet, digest 0676ba61b679" in Reader(report.write(results).read_text()).text


def test_commands_name_what_differs_from_the_profile(results):
    notebook = results / "notebooks" / "03_table2_cuhk03.ipynb"
    given = '"profile": "smoke"'
    notebook.write_text(notebook.read_text().replace(given, given + ', "k1": 40, "k2": 6, "ap": "it\'s"'))
    text = Reader(report.write(results).read_text()).text
    shown = "reid-core notebook 03_table2_cuhk03 --profile smoke "
    command = text[text.index(shown + "-p results_root") if shown + "-p results_root" in text else text.index(shown) :]
    assert "-p k1=40" in command[:200] and "k2" not in command[:200]
    assert """-p 'ap=it'"'"'s'""" in command[:200]
    assert "reid-core notebook 02_train --profile smoke -p model=hcn -p train_set=combined -p seed=0" in text


def test_texts_are_escaped(results):
    claims = pd.read_csv(results / "claims.csv")
    claims.loc[0, ["text", "ours"]] = ["<script>alert(1)</script>", 'a & b <img src="http://x/y.png">']
    claims.to_csv(results / "claims.csv", index=False)
    text = report.write(results).read_text()
    page = Reader(text)
    assert text.count("<script") == 1 and "<script>alert" not in text and "http://x/y.png" not in page.loads
    assert "<script>alert(1)</script>" in page.text and 'a & b <img src="http://x/y.png">' in page.text


ODD = """hcn-mein Laden #1 100% "ä" 'b'&<c>.csv-seed0"""


def test_names_of_own_sets_and_folders_are_shown_and_linked_to_as_they_are(results, tmp_path):
    folder = shutil.copytree(results, tmp_path / "my results #2 ä?")
    shutil.copytree(folder / "runs" / "hcn-market1501-seed0", folder / "runs" / ODD)
    table = pd.read_csv(folder / "table1.csv")
    own = table.head(1).assign(dataset="</script><b>shop</b>", note="")
    pd.concat([table, own]).to_csv(folder / "table1.csv", index=False)
    path = report.write(folder)
    page = Reader(path.read_text())
    assert ODD in page.text and "</script><b>shop</b>" in page.text
    outside = [link for link in page.links if not link.startswith("#")]
    assert any("%23" in link for link in outside)
    for link in outside:
        assert not set(link) & set("#?<> ") and (folder / unquote(link)).exists(), link
    assert f"reid-core explain '{folder.resolve()}/table2.csv' lists the rows" in page.text


def test_same_inputs_same_bytes_and_altered_files_are_named(results):
    first = report.write(results).read_bytes()
    assert report.write(results).read_bytes() == first
    assert b"Changed since" not in first
    with open(results / "table4.csv", "a") as file:
        file.write("\n")
    assert "Changed since their sidecar was written: table4.csv" in Reader(report.write(results).read_text()).text
    assert not list(results.glob(".report*"))


def test_data_digest_is_that_of_the_data_root(results, tmp_path):
    root = tmp_path / "data"
    root.mkdir()
    (root / "embedded.json").write_text('{"renderer_version": 7, "seed": 3, "digest": "e2b89a82eb2e"}')
    notebook = results / "notebooks" / "01_datasets.ipynb"
    notebook.write_text(notebook.read_text().replace("data/embedded/smoke", str(root)))
    assert "renderer version 7, seed 3, digest e2b89a82eb2e" in Reader(report.write(results).read_text()).text


def test_what_there_is_so_far_is_a_page_without_verdicts(results):
    for name in ("claims.csv", "table2.csv", "report.html"):
        (results / name).unlink(missing_ok=True)
    facts = {"data_source": "embedded", "profile": "smoke", "ap": "trapezoid", "seeds": "0"}
    page = report.write(results, facts).read_text()
    assert "No verdict yet" in page and 'id="claim-' not in page
    assert "is not there yet" in page and "Market-1501" in page.split('id="table3"')[1]


def test_refuses_without_claims(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"claims\.csv: there is no such file.*reid-core notebook 09_claims"):
        report.write(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("claims", lambda t: t.drop(columns="verdict"), r"claims\.csv: has no column verdict"),
        ("claims", lambda t: t.head(0), r"claims\.csv: holds no claim"),
        ("claims", lambda t: t.assign(verdict="perhaps"), r"verdict of table1 is 'perhaps'"),
        ("claims", lambda t: t.assign(profile=[*t["profile"][1:], "gpu"]), r"profile has several values"),
        ("table2", lambda t: t.assign(data_source="official"), r"table2\.csv: data_source is 'official'"),
        ("table4", lambda t: t.drop(columns="ours_hours"), r"table4\.csv: has no column ours_hours"),
    ],
)
def test_refuses_unusable_tables(results, name, change, message):
    path = results / f"{name}.csv"
    change(pd.read_csv(path)).to_csv(path, index=False)
    with pytest.raises(ValueError, match=message):
        report.write(results)
    assert not (results / "report.html").exists()


@pytest.mark.parametrize(
    ("name", "text"),
    [("claims.csv", ""), ("table2.csv", 'a,b\n"'), ("table2.json", "{"), ("notebooks/09_claims.ipynb", '{"cells": ['),
     ("runs/hcn-market1501-seed0/run.json", '{"model": "hcn"')],
)  # fmt: skip
def test_refuses_broken_files(results, name, text):
    (results / name).write_text(text)
    with pytest.raises(ValueError, match=rf"{name}: not readable"):
        report.write(results)


def test_a_half_written_run_is_named_with_what_it_lacks(results):
    path = results / "runs" / "hcn-market1501-seed0" / "run.json"
    path.write_text('{"finished": true, "model": "hcn", "recipe": {}}')
    with pytest.raises(ValueError, match=r"run\.json: says nothing usable under seed, seconds, device"):
        report.write(results)


def test_template_and_style_are_shipped():
    """Every file beside the modules that is no module is package data of its package."""
    with open(sidecar.REPOSITORY / "pyproject.toml", "rb") as file:
        data = tomllib.load(file)["tool"]["setuptools"]["package-data"]
    shipped = {path for name, patterns in data.items() for pattern in patterns
               for path in (sidecar.REPOSITORY / name.replace(".", "/")).glob(pattern)}  # fmt: skip
    listed = subprocess.run(["git", "ls-files", "reid_core", "reproduction"], cwd=sidecar.REPOSITORY, check=True,
                            capture_output=True, text=True).stdout.split()  # fmt: skip
    there = {sidecar.REPOSITORY / name for name in listed if not name.endswith((".py", ".md"))}
    assert len(there) >= 15 and there == shipped


def luminance(colour):
    channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_every_colour_of_a_text_reads_on_its_ground():
    """WCAG 2 AA: a contrast of at least 4.5 to 1, in the light, in the dark and on paper."""
    style = (report.FOLDER / "report.css").read_text()
    light, dark, paper_ = (dict(re.findall(r"--([a-z]+): (#[0-9a-f]{3,6});", block))
                           for block in re.findall(r":root \{([^}]*)\}", style))  # fmt: skip
    paper_ = {name: "#ffffff" if colour == "#fff" else colour for name, colour in paper_.items()}
    for colours in (light, dark, light | paper_):
        for name in ("ink", "soft", "yes", "no", "open", "none", "warn", "link"):
            for ground in ("page", "tint"):
                bright, dim = sorted((luminance(colours[name]), luminance(colours[ground])), reverse=True)
                assert (bright + 0.05) / (dim + 0.05) >= 4.5, (name, ground, colours[name])


def test_every_number_says_how_it_is_traced(embedded):
    text = Reader(embedded.read_text()).text
    folder = embedded.parent.resolve()
    traced = set(re.findall(rf"reid-core explain {folder}/([\w.]+)", text))
    assert traced >= {path.name for path in folder.glob("*.csv")}
    for claim in CLAIMS:
        assert f" {claim.key}" in text


@pytest.mark.slow
def test_the_watch_in_chromium_sees_what_a_page_asks_for(embedded, tmp_path):
    """The next test would fail if the report asked for anything, even for what its policy then blocks."""
    browser = chromium.find()
    if browser is None:
        pytest.skip("there is no Chromium here")
    path = tmp_path / "report.html"
    image = "http://127.0.0.1:9/a.png"
    path.write_text(embedded.read_text().replace("</header>", f"<img src='{image}'></header>"))
    with chromium.page(browser) as page:
        page.open(path.as_uri())
        assert image in page.requested


@pytest.mark.slow
@pytest.mark.parametrize("width", [360, 800, 1400])
@pytest.mark.parametrize("dark", [False, True])
def test_in_chromium_fits_its_width_and_asks_for_nothing(embedded, width, dark):
    browser = chromium.find()
    if browser is None:
        pytest.skip("there is no Chromium here")
    with chromium.page(browser) as page:
        page.look(width, dark=dark)
        page.open(embedded.as_uri())
        asked = [url for url in page.requested if not url.startswith("data:")]
        assert asked == [embedded.as_uri()] and not page.errors
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 200)")
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        level = sum(map(int, re.findall(r"\d+", ground)[:3])) / 3
        assert level < 64 if dark else level > 192


def test_a_claim_leads_to_what_it_was_read_from_and_back(embedded):
    text = embedded.read_text()
    claim = text.partition('id="claim-hcn_beats_baseline_market1501"')[2].partition("</li>")[0]
    assert '<a href="#table3">table3_people.csv</a>' in claim
    table = text.partition('<section id="table3">')[2].partition("</section>")[0]
    assert '<a href="#claim-hcn_beats_baseline_market1501">' in table and "#claim-figure4" not in table


def test_a_measured_row_of_the_tables_has_its_seeds_people_intervals_and_commands_behind_it(official):
    table, seeds = (pd.read_csv(official.parent / f"table3{end}.csv") for end in ("", "_seeds"))
    row = table.set_index("method").loc["HCN+re-rank"]
    text = official.read_text().partition('<section id="table3">')[2].partition("</section>")[0]
    behind = [Reader(part.partition("</tr>")[0]).text for part in text.split("<tr class=")[1:] if part[1:7] == "behind"]
    assert len(behind) == (table["status"] == "measured").sum()
    (own,) = (one for one in behind if "--row HCN+re-rank market1501" in one)
    assert f"{row['queries']:.0f} queries of {row['people']:.0f} people" in own
    assert f"{number(row['ours_mAP_low'])}–{number(row['ours_mAP_high'])}" in own
    each = seeds[(seeds["model"] == "hcn") & (seeds["metric"] == row["metric"]) & seeds["reranked"]]
    assert len(each) == 3
    for line in each.itertuples():
        assert f"seed {line.seed}: rank-1 {100 * line.rank1:.1f}, mAP {100 * line.mAP:.1f}; {line.run}" in own
    assert own.count("reid-core notebook 02_train") == 3 and "-p seed=2" in own
    assert text.count('class="behind"') == text.count("hidden><td")


def test_without_the_scores_of_single_seeds_nothing_stands_behind_a_row(results):
    (results / "table3_seeds.csv").unlink()
    text = report.write(results).read_text()
    assert 'id="behind-2-' in text and 'id="behind-3-' not in text


@pytest.mark.slow
def test_in_chromium_a_click_sorts_a_table_and_opens_a_row(embedded):
    browser = chromium.find()
    if browser is None:
        pytest.skip("there is no Chromium here")
    numbers = """[...document.querySelectorAll('#table3 tbody tr:not(.behind)')]
        .map(row => row.cells[3]).filter(Boolean).map(cell => parseFloat(cell.firstChild?.textContent))
        .filter(value => !isNaN(value))"""
    button = "document.querySelectorAll('#table3 .units th')[2].querySelector('button')"
    with chromium.page(browser) as page:
        page.look(1400)
        page.open(embedded.as_uri())
        own = page.evaluate(numbers)
        seen = []
        for _ in range(3):
            click = f"const start = performance.now(); {button}.click(); return performance.now() - start"
            assert page.evaluate(f"(() => {{ {click} }})()") < 100
            seen.append(page.evaluate(numbers))
        assert seen == [sorted(own, reverse=True), sorted(own), own] and own != sorted(own)
        page.evaluate("document.querySelector('#table3 .opener').focus()")
        page.press("Enter")
        assert page.evaluate("document.querySelector('#table3 .behind').getBoundingClientRect().height > 30")
        asked = [url for url in page.requested if not url.startswith("data:")]
        assert asked == [embedded.as_uri()] and not page.errors


def test_the_explorer_is_linked_to_where_it_is(results):
    assert "explorer.html" not in Reader(report.write(results).read_text()).links
    (results / "explorer.html").write_text("")
    assert "explorer.html" in Reader(report.write(results).read_text()).links


def test_each_score_across_data_sets_has_its_interval_over_people_and_seeds(official):
    text = Reader(official.read_text()).text
    table, people = (pd.read_csv(official.parent / f"cross_dataset{end}.csv") for end in ("", "_people"))
    for name, source in ((paper.MARKET1501, paper.COMBINED), (paper.CUHK03_LABELED, "untrained")):
        mean, rows = (one[(one["test_set"] == name) & (one["train_set"] == source)] for one in (table, people))
        found = [intervals.interval(rows, score, least=0.0) for score in SCORES]
        scores = " / ".join(f"{mean[score].mean():.1f}" for score in SCORES)
        assert plain(f"{scores}{' / '.join(f'{one.low:.1f}–{one.high:.1f}' for one in found)}") in plain(text)
    assert rows["seed"].nunique() == 3


def test_without_the_people_of_a_crossing_it_has_no_interval(results):
    with_them = report.write(results).read_text()
    (results / "cross_dataset_people.csv").unlink()
    without = report.write(results).read_text()
    across = [page.partition('id="across"')[2].partition("</section>")[0] for page in (with_them, without)]
    assert "<small>" in across[0] and "<small>" not in across[1]


def explored(results, numbers=(3, 8, 9)):
    """An explorer.html with three queries of CUHK03 labeled by the combined model and the baseline."""
    ap = {"combined-xqda-reranked": [0.5, 0.25, None], "baseline-xqda-reranked": [0.125, 0.5, None]}
    methods = [{"key": key, "ap": values} for key, values in ap.items()]
    page = {
        "sets": [{"name": paper.CUHK03_LABELED, "seeds": {"2": methods}, "queries": [[n, 1, 1, 0] for n in numbers]}]
    }
    (results / "explorer.html").write_text(f"{queries.DATA}{json.dumps(page)}</script>")


def test_a_claim_and_figure_5_lead_to_single_queries_of_the_explorer(results):
    record = {"files": {}, "created": "2026-01-01T00:00:00", "device": "a device", "versions": {},
              "data_source": "embedded", "profile": "smoke", "ap": "trapezoid", "set": paper.CUHK03_LABELED,
              "queries": {"largest gain": 3, "median": 8, "largest loss": 77}}  # fmt: skip
    (results / "figure5.json").write_text(json.dumps(record))
    explored(results)
    text = report.write(results).read_text()
    where = (
        "explorer.html#set=cuhk03_labeled&amp;seed=2&amp;upper=combined-xqda-reranked&amp;lower=baseline-xqda-reranked"
    )
    claim = text.partition('id="claim-gain_cuhk03_labeled"')[2].partition("</li>")[0]
    assert f'<a href="{where}&amp;query=3">query 3 (largest gain, +0.38 AP)</a>' in claim
    assert f'<a href="{where}&amp;query=8">query 8 (largest loss, −0.25 AP)</a>' in claim and "query 9" not in claim
    figure = text.partition('<figure id="figure5">')[2].partition("</figure>")[0]
    assert f'{where}&amp;query=3">' in figure and f'{where}&amp;query=8">query 8 (median, −0.25 AP)' in figure
    assert "query=77" not in text, "which the page does not hold"
    assert text.count("explorer.html#") == 4


def test_the_claims_that_lead_to_queries_are_claims_and_their_methods_are_the_explorers():
    known = {claim.key for claim in CLAIMS}
    for claim, (name, *models) in further.WORDS["queries"].items():
        assert claim in known and name in paper.PRINTED_METRIC and set(models) < {"baseline", "hcn", "combined"}


@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True])
def test_in_chromium_the_page_keeps_nothing_from_anyone(embedded, dark):
    browser = chromium.find()
    if browser is None:
        pytest.skip("there is no Chromium here")
    script = axe.source()
    with chromium.page(browser) as page:
        page.look(360 if dark else 1400, dark=dark)
        page.open(embedded.as_uri())
        assert axe.serious(page, script) == []
        page.evaluate("document.querySelectorAll('.opener').forEach(one => one.click())")
        assert axe.serious(page, script) == []


@pytest.mark.slow
def test_in_chromium_it_prints(embedded, tmp_path):
    browser = chromium.find()
    if browser is None:
        pytest.skip("there is no Chromium here")
    with chromium.page(browser) as page:
        page.open(embedded.as_uri())
        assert page.pdf(tmp_path / "report.pdf").read_bytes().count(b"/Type /Page\n") > 8
        page.look(700)
        page.call("Emulation.setEmulatedMedia", media="print")
        assert page.evaluate("[...document.querySelectorAll('nav, .opener')].every(one => !one.offsetHeight)")
        assert page.evaluate("document.querySelectorAll('.claims > li').length > 30")
