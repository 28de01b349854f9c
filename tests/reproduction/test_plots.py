"""Figures: what they draw, and the rules of the one style that all of them keep."""

import re

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex, to_rgb
from PIL import Image
from synthetic_results import people_of, scores_of

from reproduction import experiment, paper, plots, response_maps, tables


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture
def path(tmp_path):
    Image.new("RGB", (8, 16), (90, 20, 20)).save(tmp_path / "a.png")
    return str(tmp_path / "a.png")


def losses(model):
    steps = np.arange(1, 31)
    values = 4 / steps + (model == "hcn")
    return pd.DataFrame({"iteration": steps, "loss_r5": values, "seconds": 0.1 * steps, "seed": 0})


def curves(sets=("cuhk03_detected", "cuhk03_labeled", "market1501"), against="iteration"):
    runs = {name: {model: [losses(model)] for model in ("baseline", "hcn")} for name in sets}
    return plots.loss_curves(runs, 5, against=against)


def precision_lists():
    values = {"step": 0.83, "trapezoid": 0.79, "cmc": 1}
    return plots.average_precision_lists([(f"({x})", (True, False, True, False), values) for x in "abc"])


def rank_lists(path, top=10):
    """Two lists of `top` counted images, the first two of which stand behind images that are passed over."""
    flags = ["same camera", "junk"] + [""] * top
    ranks = [None, None, *range(1, top + 1)]
    ranked = pd.DataFrame({"rank": pd.array(ranks, "Int64"), "flag": flags, "image_path": path})
    ranked["is_match"] = [rank is not None and rank % 2 > 0 for rank in ranks]
    ranked = list(ranked.assign(camera_id=6, distance=-0.0123).head(top).itertuples())
    lists = [(f"{label}: AP 0.93, first match at rank 1", ranked) for label in ("ours (HCN)", "[13]")]
    source = plots.source_text("embedded", "test", "under each image its camera and distance")
    example = {"query": path, "title": "query 123: person 4, camera 5 (largest gain)", "lists": lists}
    return plots.rank_lists([example], source, places=top)


def people(path):
    table = pd.DataFrame({"person_id": 1, "camera_id": range(1, 13), "image_path": path})
    sets = {"cuhk03_detected": table, "market1501": table.head(4)}
    return plots.people(sets, {"data_source": "embedded", "profile": "test"})


def table_and_scores(number=2, data_source="embedded", seeds=(0, 1, 2)):
    """Table 2 or 3 with three seeds of our runs and one line of each method of the literature."""
    draw = np.random.default_rng(1)
    rows, sets = paper.rows(number), paper.SETS[:2] if number == 2 else paper.SETS[2:]
    theirs = pd.DataFrame([{"model": "literature", "method": row.method, "set": name, "seed": 0, "rank1": draw.random(),
                            "mAP": draw.random(), "queries": 132, "queries_without_match": 0}
                           for row in rows if row.model is None for name in sets])  # fmt: skip
    theirs["people"] = people_of(draw, theirs[["rank1", "mAP"]])
    scores = pd.concat([scores_of(draw, sets, seeds), theirs], ignore_index=True)
    return tables.compare(rows, sets, scores, {"data_source": data_source, "profile": "test"}), scores


def output_scores():
    lines = [
        (name, model, seed, output, metric, reranked, 50 + 10 * seed)
        for name in ("cuhk03_detected", "cuhk03_labeled", "market1501")
        for model in ("baseline", "hcn", "combined")
        for seed in (0, 1)
        for output in (("r5",) if model == "baseline" else ("r5", "c1", "c2", "r5+c1+c2"))
        for metric in ("euclidean", "xqda")
        for reranked in (False, True)
    ]
    return response_maps.scores_figure(
        pd.DataFrame(lines, columns=["set", "model", "seed", "output", "metric", "reranked", "mAP"])
    )


def response_example(path):
    pictures = pd.DataFrame({"image_path": path, "kind": ["query", "match", "match", "other"], "rank": [0, 1, 12, 2]})
    sizes = {"r5": (2, 1), "c1": (8, 4), "c2": (16, 8)}
    maps = {name: np.arange(4 * h * w, dtype=float).reshape(4, h, w) - 9 for name, (h, w) in sizes.items()}
    return {"title": "query 1234: largest gain", "pictures": pictures, "response": maps, "similarity": maps}


def sourced(figure):
    plots.source_line(figure, "embedded", "test", "moving average of 15 iterations")
    return figure


def training_runs(seeds=(0, 1, 2)):
    """Lines of every training, as `Experiment.described` has them: a baseline takes 1 hour and a tenth a seed, an HCN
    that and a half, and twice that on the combined set."""
    hours = {"baseline": 1.0, "hcn": 1.5, "combined": 3.0}
    return pd.DataFrame([
        {"model": model, "train_set": name, "seed": seed, "run": experiment.run_name(model, name, seed),
         "hours": hours["combined" if name == paper.COMBINED else model] + 0.1 * seed, "iterations": 9,
         "seconds_per_iteration": 0.1, "form": "pooled", "device": "a device"}
        for model, name in experiment.trainings() for seed in seeds
    ])  # fmt: skip


def training_times(data_source="embedded"):
    table = tables.table4(training_runs(), {"data_source": data_source, "profile": "test"})
    return plots.times(table, training_runs())


def image_counts():
    """Table 1 and its images of a tiny Market-1501, CUHK03 labeled and a shop; CUHK01 is not there."""
    rows = [("train", 1, 1), ("train", 2, 2), ("query", 3, 1), ("gallery", 3, 2), ("gallery", 0, 2)]
    table = pd.DataFrame(rows, columns=["subset", "person_id", "camera_id"])
    names = {"market1501": "market1501", "cuhk03_labeled": "cuhk03", "my shop.csv": "my shop"}
    images = {name: table.assign(dataset=dataset) for name, dataset in names.items()}
    facts = {"data_source": "embedded", "profile": "test"}
    return [made(images).assign(**facts) for made in (tables.table1, tables.table1_subsets)]


FIGURES = {
    "table1": lambda path: plots.counts(*image_counts()),
    "table2": lambda path: plots.scores(*table_and_scores(2)),
    "table3": lambda path: plots.scores(*table_and_scores(3)),
    "table4": lambda path: training_times(),
    "figure3": lambda path: sourced(curves()),
    "figure3_time": lambda path: sourced(curves(against="seconds")),
    "figure4": lambda path: sourced(precision_lists()),
    "figure5": rank_lists,
    "people": people,
    "inside_hcn": lambda path: sourced(output_scores()),
    "response_maps": lambda path: sourced(response_maps.maps_figure([response_example(path)] * 3)),
}


def test_loss_curves_draw_raw_and_smoothed_for_both_models():
    figure = curves(("cuhk03_labeled", "market1501"))
    assert len(figure.axes) == 2
    for axis in figure.axes:
        assert len(axis.lines) == 4
        smoothed = axis.lines[1].get_ydata()
        assert np.allclose(smoothed, plots.smooth(losses("baseline")["loss_r5"], 5))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(plots.TITLES.values())[:2]


def test_of_several_seeds_the_mean_is_drawn_in_the_band_from_the_lowest_to_the_highest():
    seeds = [losses("hcn").assign(loss_r5=lambda table, add=add: table["loss_r5"] + add) for add in (0, 3, 0.5)]
    seeds[1] = seeds[1].assign(seconds=lambda table: table["seconds"] / 2)
    (axis,) = plots.loss_curves({"market1501": {"hcn": seeds}}, 5).axes
    smoothed = [plots.smooth(one["loss_r5"], 5) for one in seeds]
    assert len(axis.lines) == 4 and np.allclose(axis.lines[3].get_ydata(), np.mean(smoothed, axis=0))
    (band,) = axis.collections
    edge = band.get_paths()[0].vertices
    for number, value in enumerate(smoothed[0], start=1):
        assert sorted(set(edge[edge[:, 0] == number, 1].round(6))) == pytest.approx([value, value + 3], abs=1e-5)
    assert to_hex(band.get_facecolor()[0]) == plots.COLOURS["hcn"].lower()
    (axis,) = plots.loss_curves({"market1501": {"hcn": seeds}}, 5, against="seconds").axes
    assert axis.lines[3].get_xdata() == pytest.approx(np.arange(1, 31) * (0.1 + 0.05 + 0.1) / 3), "their mean time"
    assert np.allclose(axis.lines[3].get_ydata(), np.mean(smoothed, axis=0))


def test_against_wall_time():
    figure = curves(("market1501",), against="seconds")
    assert figure.axes[0].lines[0].get_xdata()[-1] == pytest.approx(3.0)
    assert "(s)" in figure.axes[0].get_xlabel()


def test_figure4_says_both_definitions():
    figure = plots.average_precision_lists([("(c)", (True, False, True), {"step": 0.83, "trapezoid": 0.79, "cmc": 1})])
    text = " ".join(item.get_text() for item in figure.axes[0].texts)
    assert "0.83 (step)" in text and "0.79 (trapezoid)" in text
    edges = [to_hex(patch.get_edgecolor()) for patch in figure.axes[0].patches]
    assert edges == [plots.RIGHT.lower(), plots.WRONG.lower(), plots.RIGHT.lower()]


def test_rank_lists_stand_one_above_the_other_with_frames_signs_cameras_and_distances(path):
    figure = rank_lists(path, top=5)
    (axis,) = figure.axes
    for frames in axis.collections:
        colours = [to_hex(colour) for colour in frames.get_edgecolors()]
        expected = (plots.QUERY_COLOUR, plots.JUNK_COLOUR, plots.JUNK_COLOUR, plots.RIGHT, plots.WRONG, plots.RIGHT)
        assert colours == [colour.lower() for colour in expected]
        widths = frames.get_linewidths()
        assert widths[3] > 2 * widths[4], "also seen without colour"
    tops = [frames.get_paths()[0].vertices[:, 1].min() for frames in axis.collections]
    assert axis.yaxis_inverted() and tops[0] < tops[1], "the first list stands above"
    texts = [text.get_text() for text in axis.texts]
    assert {"query", "same cam.", "junk", "1 ✓", "2 ✗", "3 ✓", "c6 · -0.0123"} < set(texts)


@pytest.mark.parametrize("data_source", ["embedded", "official"])
def test_a_score_is_drawn_with_its_seeds_its_interval_and_on_official_data_the_papers_figure(data_source):
    table, scores = table_and_scores(3, data_source)
    first, axis = plots.scores(table, scores).axes
    methods = [label.get_text() for label in first.get_yticklabels()]
    assert methods == list(table["method"])[::-1], "as printed, from above"
    row = table.set_index("method").loc["Ours+re-rank"]
    drawn = [line for line in axis.lines if set(line.get_ydata()) == {methods.index("Ours+re-rank")}]
    assert list(drawn[0].get_xdata()) == [row["ours_mAP_low"], row["ours_mAP_high"]]
    assert list(drawn[1].get_xdata()) == [row["ours_mAP"]] and drawn[1].get_marker() == "|"
    ours = scores.query("model == 'combined' and metric == 'euclidean' and reranked")
    assert list(drawn[2].get_xdata()) == list(100 * ours["mAP"]) and drawn[2].get_marker() == plots.MARKERS["combined"]
    assert [list(line.get_xdata()) for line in drawn[3:]] == ([[72.66]] if data_source == "official" else [])
    said = [text.get_text() for text in axis.figure.legends[0].get_texts()]
    assert (plots.PRINTED in said) == (data_source == "official")
    assert len(said) == len(set(said)) == 4 + (data_source == "official")


def test_what_was_not_measured_is_not_drawn():
    facts = {"data_source": "official", "profile": "test"}
    scores = table_and_scores(2)[1].query("model == 'hcn'")
    table = tables.compare(paper.rows(2), paper.SETS[:2], scores, facts)
    figure = plots.scores(table, scores)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()][::-1] == [
        "HCN", "HCN+XQDA", "HCN+re-rank", "HCN+XQDA+re-rank"
    ]  # fmt: skip
    nothing = tables.compare(paper.rows(2), paper.SETS[:2], pd.DataFrame(), facts)
    (axis,) = plots.scores(nothing, pd.DataFrame()).axes
    assert axis.get_xlabel() == tables.NOT_YET and not axis.lines


def marks(axis, row):
    """What stands in a row of an axis: {marker: x of its marks}."""
    y = [label.get_text() for label in axis.figure.axes[0].get_yticklabels()].index(row)
    return {line.get_marker(): list(line.get_xdata()) for line in axis.lines if set(line.get_ydata()) == {y}}


def test_table1_is_drawn_as_counted_beside_what_is_published():
    identities, subsets = image_counts()
    figure = plots.counts(identities, subsets)
    panels = {axis.get_title(): axis for axis in figure.axes}
    assert list(panels) == ["in all", "for training", "for testing", "train", "query", "gallery"]
    assert [axis.get_xlabel() for axis in figure.axes] == ["people"] * 3 + ["images"] * 3
    rows = [label.get_text() for label in figure.axes[0].get_yticklabels()][::-1]
    assert rows == ["Market-1501", "CUHK03", "CUHK01", "Combined", "my shop"]
    for title, found, published in (("in all", 3, 1501), ("for testing", 1, 750), ("gallery", 2, 19732)):
        there = marks(panels[title], "Market-1501")
        assert (there["o"], there["v"]) == ([found], [published])
    assert marks(panels["train"], "CUHK03")["v"] == [7368] and marks(panels["train"], "my shop")["o"] == [2]
    assert "v" not in marks(panels["in all"], "my shop") and marks(panels["in all"], "CUHK01")["v"] == [971]
    assert {axis.get_xscale() for axis in figure.axes} == {"log"}
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["Counted here", "As published"]


@pytest.mark.parametrize("data_source", ["embedded", "official"])
def test_table4_is_drawn_as_shares_of_the_baselines_total_a_mark_a_seed(data_source):
    (axis,) = training_times(data_source).axes
    mean = 3 * (1 + 1.1 + 1.2) / 3
    assert axis.get_xlabel() == "share of the three baselines' total (%), here 3 h 18 min, in the paper 96 h"
    for row, kind, hours, printed in (
        ("Zhong [13]: CUHK03 labeled", "baseline", [1, 1.1, 1.2], [36 / 0.96]),
        ("Zhong [13]: total", "baseline", [3, 3.3, 3.6], [100]),
        ("Our: total", "combined", [3, 3.1, 3.2], [43 / 0.96]),
        ("HCN, separately: Market-1501", "hcn", [1.5, 1.6, 1.7], None),
    ):
        there = marks(axis, row)
        assert there[plots.MARKERS[kind]] == pytest.approx([100 * one / mean for one in hours])
        assert there["|"] == pytest.approx([100 * np.mean(hours) / mean])
        assert there.get("v") == (printed and pytest.approx(printed))
    rows = [label.get_text() for label in axis.get_yticklabels()]
    assert len(rows) == 9 and rows[-1] == "Zhong [13]: CUHK03 detected"


def test_a_seed_that_lacks_a_training_has_no_total():
    runs = training_runs().query("not (model == 'baseline' and train_set == 'market1501' and seed == 2)")
    table = tables.table4(runs, {"data_source": "embedded", "profile": "test"})
    total = table.set_index(["method", "train_set"]).loc[("Zhong [13]", "total")]
    assert total["hours_std"] == pytest.approx(np.std([3.0, 3.3], ddof=1))
    (axis,) = plots.times(table, runs).axes
    drawn = marks(axis, "Zhong [13]: total")["o"]
    assert drawn[:2] == pytest.approx([300 / total["ours_hours"], 330 / total["ours_hours"]]) and np.isnan(drawn[2])


def test_without_the_baselines_table4_has_the_papers_shares_alone():
    runs = training_runs().query("model == 'hcn'")
    (axis,) = plots.times(tables.table4(runs, {"data_source": "official", "profile": "test"}), runs).axes
    assert axis.get_xlabel().endswith("here not measured yet, in the paper 96 h")
    assert marks(axis, "Our: total")["v"] == pytest.approx([43 / 0.96])
    assert np.isnan(marks(axis, "Our: total")["D"]).all()


def test_scores_of_outputs_are_means_over_seeds_with_the_baseline_as_a_line():
    figure = output_scores()
    assert len(figure.axes) == 12
    assert figure.axes[9].get_ylabel() == "XQDA, re-ranked\nmAP (%)"
    axis = figure.axes[0]
    assert [label.get_text() for label in figure.axes[9].get_xticklabels()] == ["R5", "C1", "C2", "all joined"]
    across, *points = axis.lines
    assert list(across.get_ydata()) == [55, 55] and to_hex(across.get_color()) == plots.COLOURS["baseline"].lower()
    for line, model in zip(points, ("hcn", "combined"), strict=True):
        assert list(line.get_ydata()) == [55] * 4 and line.get_marker() == plots.MARKERS[model]
        assert to_hex(line.get_color()) == plots.COLOURS[model].lower()
    bars = [segment[:, 1].tolist() for one in axis.collections for segment in one.get_segments()]
    assert bars == [[50, 60]] * 8


def test_response_maps_share_a_scale_along_a_row_and_print_the_cosine(path):
    one, other = response_example(path), response_example(path)
    other["response"] = {name: maps + 100 for name, maps in other["response"].items()}
    figure = response_maps.maps_figure([one, other])
    rows = np.array(figure.axes, object).reshape(7, 8)
    assert [axis.get_title() for axis in rows[0, :4]] == ["query", "1 ✓", "12 ✓", "2 ✗"]
    for row, size in zip(rows[1:4], (2, 32, 128), strict=True):
        assert {axis.get_images()[0].get_clim() for axis in row} == {(-9, 4 * size + 90)}
    assert rows[1, 0].texts[0].get_text() == "R5 (2×1)\nresponse\n-9 to 98"
    assert [axis.get_title() for axis in rows[4, :4]] == ["-8.50", "-6.50", "-4.50", "-2.50"]


@pytest.mark.parametrize("name", FIGURES)
def test_letters_are_printed_at_7_points_or_more_and_none_covers_another(name, path):
    figure = FIGURES[name](path)
    texts, renderer = drawn_texts(figure)
    assert sum("embedded (rendered) data · profile test" in text.get_text() for text in texts) == 1
    assert min(text.get_fontsize() for text in texts) >= 7
    assert figure.get_tightbbox(renderer).width <= plots.WIDTH + 0.1, "printed smaller than its letters say"
    boxes = [text.get_window_extent(renderer) for text in texts]
    for i, box in enumerate(boxes):
        for text, other in zip(texts[i + 1 :], boxes[i + 1 :], strict=True):
            assert not covers(box, other), (texts[i].get_text(), text.get_text())


def drawn_texts(figure):
    """The texts that are really drawn, and the renderer that measures them."""
    renderer, drawn = FigureCanvasAgg(figure).get_renderer(), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plt.Text, "draw", lambda text, _: drawn.append(text))
        figure.draw(renderer)
    return [text for text in drawn if text.get_visible() and text.get_text().strip()], renderer


def covers(a, b):
    return min(a.x1, b.x1) - max(a.x0, b.x0) > 1 and min(a.y1, b.y1) - max(a.y0, b.y0) > 1


@pytest.mark.parametrize("name", FIGURES)
def test_axes_with_ticks_say_what_they_measure_and_in_what(name, path):
    for axis in FIGURES[name](path).axes:
        beside, above = (axis.get_shared_y_axes().get_siblings(axis), axis.get_shared_x_axes().get_siblings(axis))
        if axis.axison and len(axis.get_xticks()):
            assert {one.get_xlabel() for one in above} & {
                "iteration", "training time (s)", "feature", "rank-1 (%)", "mAP (%)", "people", "images",
                "share of the three baselines' total (%), here 3 h 18 min, in the paper 96 h",
            }  # fmt: skip
        labels = {label.get_text() for one in beside for label in one.get_yticklabels()}
        names = labels & {*(row.method for row in paper.ROWS), *paper.TABLE1, "Zhong [13]: total"}
        if axis.axison and len(axis.get_yticks()) and not names:
            assert any("(" in one.get_ylabel() for one in beside)


# Machado, Oliveira and Fernandes, "A Physiologically-based Model for Simulation of Color Vision Deficiency", IEEE
# TVCG 2009: full severity, on linear RGB.
DEFICIENCIES = {
    "none": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}  # fmt: skip


def lab(colour, deficiency):
    """CIELAB of a colour as seen with a deficiency."""
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    linear = np.clip(np.array(DEFICIENCIES[deficiency]) @ linear, 0, 1)
    matrix = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x, y, z = np.cbrt(np.maximum(matrix @ linear / (0.9505, 1.0, 1.089), 0.00886))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("deficiency", DEFICIENCIES)
@pytest.mark.parametrize(
    "colours",
    [list(plots.COLOURS.values()), [plots.RIGHT, plots.WRONG, plots.JUNK_COLOUR, plots.QUERY_COLOUR]],
    ids=["methods", "frames"],
)
def test_colours_differ_for_colour_blind_eyes_and_stand_out_from_paper(colours, deficiency):
    seen = [lab(colour, deficiency) for colour in colours]
    for i, one in enumerate(seen):
        assert lab("white", deficiency)[0] - one[0] > 35
        for j, other in enumerate(seen[:i]):
            assert np.linalg.norm(one - other) > 15, (colours[i], colours[j])


def test_methods_also_differ_without_colour():
    for mapping in (plots.COLOURS, plots.DASHES, plots.MARKERS):
        assert set(mapping) == set(plots.COLOURS)
        methods = [mapping[name] for name in ("baseline", "hcn", "combined")]
        assert len(set(methods)) == 3


def test_colours_are_written_in_one_place():
    """Every other module and notebook takes its colours from reproduction.plots."""
    others = [*(plots.sidecar.REPOSITORY / "reid_core").rglob("*.py")]
    others += (plots.sidecar.REPOSITORY / "notebooks").glob("*.ipynb")
    for other in others:
        if other.name != "plots.py":
            assert not re.search(r"\"#[0-9A-Fa-f]{6}\"", other.read_text(encoding="utf-8")), other


def test_saved_figures_are_png_and_svg_with_a_sidecar_and_the_same_bytes_again(tmp_path):
    def made(folder):
        figure = curves(("market1501",))
        plots.source_line(figure, "embedded", "test")
        return [path.read_bytes() for path in plots.save(figure, tmp_path / folder / "figure3", data_source="embedded")]

    first, second = made("a"), made("b")
    assert first == second
    assert (tmp_path / "a" / "figure3.json").exists()
    assert b"embedded (rendered) data" in first[1], "text stays text in SVG and names the source"
    families = set(re.findall(rb"font-family: ([^;]+);", first[1]))
    assert len(families) == 1 and families.pop().endswith(b", sans-serif"), "readable without DejaVu"
