"""Figures of a look inside HCN: what each output retrieves, and where the maps behind it respond."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from reproduction import paper, plots, response_maps

METRICS = {"euclidean": "Euclidean", "xqda": "XQDA"}
COLOURS = "viridis"  # of maps; dark is low and bright is high for every eye, and in grey
HEIGHT, WIDTH = 128, 64  # pixels at which a map is drawn, as the pictures are


def scores(table: pd.DataFrame) -> Figure:
    """mAP of each output as the retrieval feature, and of all joined: a column a set, a row a metric, then re-ranked.

    `table` as from `scoring.score_outputs`, mAP in per cent: the mean over seeds, with a bar from the lowest
    to the highest. The baseline, which has R5 alone, is a line.
    """
    plots.style()
    names = list(table["set"].unique())
    outputs = sorted(table["output"].unique(), key=lambda output: (len(output), output != "r5", output))
    ways = [(metric, again) for metric in table["metric"].unique() for again in (False, True)]
    size = (plots.WIDTH, 1.5 * len(ways) + 0.6)
    figure, axes = plt.subplots(len(ways), len(names), figsize=size, sharex=True, sharey=True, squeeze=False)
    for row, (metric, again) in zip(axes, ways, strict=True):
        row[0].set_ylabel(f"{METRICS[metric]}{', re-ranked' if again else ''}\nmAP (%)")
        for axis, name in zip(row, names, strict=True):
            part = table[(table["set"] == name) & (table["metric"] == metric) & (table["reranked"] == again)]
            for model, lines in part.groupby("model", sort=False):
                _points(axis, model, lines.groupby("output")["mAP"].agg(["mean", "min", "max"]), outputs)
    for axis, name in zip(axes[0], names, strict=True):
        axis.set_title(paper.SET_TITLES.get(name, name))
    for axis in axes[-1]:
        axis.set_xticks(range(len(outputs)), ["all joined" if "+" in x else x.upper() for x in outputs])
        axis.set(xlabel="feature", xlim=(-0.6, len(outputs) - 0.4), ylim=(0, 1.1 * table["mAP"].max()))
    figure.tight_layout()
    marks = axes[0, 0].get_legend_handles_labels()
    figure.legend(*marks, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3, borderaxespad=0)
    return plots.unshown(figure)


def _points(axis, model: str, scores: pd.DataFrame, outputs: Sequence[str]) -> None:
    """One model's scores at its outputs' places; the baseline's one score as a line across."""
    colour, title = plots.COLOURS[model], plots.TITLES[model]
    if model == "baseline":
        axis.axhline(
            scores.loc["r5", "mean"], color=colour, linestyle=plots.DASHES[model], label=f"{title}, R5"
        )
        return
    places = np.array([outputs.index(output) for output in scores.index]) + {"hcn": -0.12}.get(model, 0.12)
    axis.vlines(places, scores["min"], scores["max"], color=colour, linewidth=1)
    axis.plot(places, scores["mean"], plots.MARKERS[model], color=colour, markersize=5, label=title)


def maps(examples: Sequence[Mapping]) -> Figure:
    """Pictures of each example with the maps of R5, C1, C2 below: their response, then their similarity to the query.

    `examples` as from `reproduction.response_maps.example`. A row has one scale from dark to bright, printed beside it
    with the map's size; over a map of similarity stands its mean, the cosine of the two features.
    """
    plots.style()
    kinds = [(kind, output) for kind in ("response", "similarity") for output in examples[0][kind]]
    columns = max(len(example["pictures"]) for example in examples)
    figure, axes = plots.sheet(1 + len(kinds), columns * len(examples), left=0.95, groups=len(examples))
    for axis in axes.flat:
        axis.axis("off")
    for number, example in enumerate(examples):
        shown = axes[0, number * columns :]
        _pictures(shown, example["pictures"])
        figure.text(shown[0].get_position().x0, 1.01, example["title"], va="bottom", fontsize=8)
    for row, (kind, output) in zip(axes[1:], kinds, strict=True):
        low, high = (end([end(example[kind][output]) for example in examples]) for end in (np.min, np.max))
        for number, example in enumerate(examples):
            for axis, values in zip(row[number * columns :], example[kind][output], strict=False):
                shown = response_maps.upsampled(values[None], HEIGHT, WIDTH)[0]
                axis.imshow(shown, cmap=COLOURS, vmin=low, vmax=high, aspect="auto")
                if kind == "similarity":
                    axis.set_title(f"{values.mean():.2f}", fontsize=plots.SMALL, pad=3)
        size = "×".join(map(str, examples[0][kind][output].shape[1:]))
        plots.row_label(row[0], f"{output.upper()} ({size})\n{kind}\n{low:.2g} to {high:.2g}")
    return plots.unshown(figure)


def _pictures(axes, pictures: pd.DataFrame) -> None:
    colours = {"query": plots.QUERY_COLOUR, "match": plots.RIGHT, "other": plots.WRONG}
    marks = {"match": " ✓", "other": " ✗"}
    for axis, one in zip(axes, pictures.itertuples(), strict=False):
        axis.axis("on")
        title = "query" if one.kind == "query" else f"{one.rank}{marks[one.kind]}"
        plots.picture(axis, one.image_path, colours[one.kind], title)
