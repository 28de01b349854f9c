import matplotlib

matplotlib.use("Agg")

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from PIL import Image

from reid_core import plots


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def losses(model):
    steps = np.arange(1, 31)
    values = 4 / steps + (model == "hcn")
    return pd.DataFrame({"iteration": steps, "loss_r5": values, "seconds": 0.1 * steps, "seed": 0})


def test_loss_curves_draw_raw_and_smoothed_for_both_models():
    runs = {name: {m: [losses(m)] for m in ("baseline", "hcn")} for name in ("cuhk03_labeled", "market1501")}
    figure = plots.loss_curves(runs, 5)
    assert len(figure.axes) == 2
    for axis in figure.axes:
        assert len(axis.lines) == 4
        smoothed = axis.lines[1].get_ydata()
        assert np.allclose(smoothed, plots.smooth(losses("baseline")["loss_r5"], 5))
    assert [text.get_text() for text in figure.axes[-1].get_legend().get_texts()] == list(
        plots.TITLES.values()
    )[:2]


def test_against_wall_time():
    figure = plots.loss_curves({"market1501": {"hcn": [losses("hcn")]}}, 3, against="seconds")
    assert figure.axes[0].lines[0].get_xdata()[-1] == pytest.approx(3.0)
    assert "(s)" in figure.axes[0].get_xlabel()


def test_figure4_says_both_definitions():
    figure = plots.average_precision_lists(
        [("(c)", (True, False, True), {"step": 0.83, "trapezoid": 0.79, "cmc": 1})]
    )
    text = " ".join(item.get_text() for item in figure.axes[0].texts)
    assert "0.83 (step)" in text and "0.79 (trapezoid)" in text
    edges = [matplotlib.colors.to_hex(patch.get_edgecolor()) for patch in figure.axes[0].patches]
    assert edges == [plots.RIGHT.lower(), plots.WRONG.lower(), plots.RIGHT.lower()]


def test_rank_lists_frame_matches_green_and_others_red(tmp_path):
    Image.new("RGB", (8, 16), (90, 20, 20)).save(tmp_path / "a.png")
    path = str(tmp_path / "a.png")
    ranked = pd.DataFrame({"rank": [1, 2], "flag": "", "is_match": [True, False], "image_path": path})
    figure = plots.rank_lists(
        [{"query": path, "title": "q", "lists": [("ours", ranked), ("theirs", ranked)]}], top=3
    )
    frames = [
        matplotlib.colors.to_hex(axis.spines["left"].get_edgecolor())
        for axis in figure.axes
        if axis.get_images()
    ]
    assert frames == [plots.QUERY.lower(), plots.RIGHT.lower(), plots.WRONG.lower()] * 2


def test_saved_figures_are_png_and_svg_with_a_sidecar_and_the_same_bytes_again(tmp_path):
    def made(folder):
        figure = plots.loss_curves({"market1501": {"hcn": [losses("hcn")]}}, 3)
        plots.source_line(figure, "embedded", "test")
        return [
            path.read_bytes()
            for path in plots.save(figure, tmp_path / folder / "figure3", data_source="embedded")
        ]

    first, second = made("a"), made("b")
    assert first == second
    assert (tmp_path / "a" / "figure3.json").exists()
    assert b"embedded (rendered) data" in first[1], "text stays text in SVG and names the source"
