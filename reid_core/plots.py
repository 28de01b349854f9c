"""The kit's figures: Figure 3 (loss curves), Figure 4 (AP and CMC), Figure 5 (rank lists), one style for all.

Colours are Okabe and Ito's colour-blind safe ones, the same for a method in every figure. Each figure names its data
source. Functions return a matplotlib Figure; `save` writes PNG and SVG with a sidecar of provenance.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

from reid_core import atomic, paper, provenance

COLOURS = {"baseline": "#0072B2", "hcn": "#D55E00", "combined": "#009E73", "other": "#7F7F7F"}
TITLES = {"baseline": "Baseline (backbone alone)", "hcn": "HCN", "combined": "HCN, combined set"}
RIGHT, WRONG, JUNK, QUERY = "#009E73", "#CC3311", "#9A9A9A", "#222222"


def style() -> None:
    """Set the kit's one style: white ground, light grid, text stays text in SVG, reproducible identifiers."""
    sns.set_theme(context="paper", style="whitegrid", font="DejaVu Sans", rc={
        "figure.dpi": 110, "savefig.dpi": 160, "axes.spines.top": False, "axes.spines.right": False,
        "grid.color": "#E5E5E5", "axes.edgecolor": "#666666", "legend.frameon": False,
        "svg.fonttype": "none", "svg.hashsalt": "reid-core",
    })  # fmt: skip


def save(figure: Figure, stem: str | Path, **facts) -> list[Path]:
    """Write `stem`.png and `stem`.svg, each in one step, and the sidecar `stem`.json; close the figure."""
    stem = Path(stem)
    written = []
    for suffix, metadata in ((".png", {"Software": None}), (".svg", {"Date": None})):
        with atomic.replacing(stem.with_suffix(suffix)) as temporary:
            figure.savefig(temporary, bbox_inches="tight", metadata=metadata)
        written.append(stem.with_suffix(suffix))
    plt.close(figure)
    provenance.write_sidecar(stem, **facts)
    return written


def _unshown(figure: Figure) -> Figure:
    """Take a figure from pyplot, which would show it once more at the end of a notebook's cell."""
    plt.close(figure)
    return figure


def source_line(figure: Figure, data_source: str, profile: str, extra: str = "") -> None:
    """Print the data source under a figure, so that embedded results are never taken for the paper's."""
    what = "embedded (rendered) data" if data_source == "embedded" else "official data"
    text = f"{what} · profile {profile}" + (f" · {extra}" if extra else "")
    figure.text(0.5, -0.01, text, ha="center", va="top", fontsize=8, color="#555555")


def smooth(values: Sequence[float], window: int) -> np.ndarray:
    """Centred moving average over `window` values (shorter at both ends), as float64, same length."""
    ones = np.ones(min(window, len(values)))
    return np.convolve(values, ones, "same") / np.convolve(np.ones(len(values)), ones, "same")


def loss_curves(
    runs: Mapping[str, Mapping[str, list[pd.DataFrame]]], window: int, *, against: str = "iteration"
) -> Figure:
    """Figure 3: training loss of R5, HCN against ResNet-50, one panel a set, smoothed over raw.

    `runs[set][model]` is a list of loss tables (iteration, loss_r5, seconds), one a seed. `against`: iteration (the
    paper's axis) or seconds (wall time). `window`: iterations of the moving average.
    """
    style()
    figure, axes = plt.subplots(1, len(runs), figsize=(4.1 * len(runs), 3.2), sharey=True, squeeze=False)
    for axis, (letter, (name, models)) in zip(axes[0], zip("abc", runs.items(), strict=False), strict=True):
        for model, losses in models.items():
            for number, loss in enumerate(losses):
                steps = loss[against].to_numpy()
                axis.plot(steps, loss["loss_r5"], color=COLOURS[model], alpha=0.22, linewidth=0.6)
                axis.plot(steps, smooth(loss["loss_r5"], window), color=COLOURS[model], linewidth=1.8,
                          label=None if number else TITLES[model])  # fmt: skip
        axis.set_title(f"({letter}) {paper.SET_TITLES[name]}")
        axis.set_xlabel("iteration" if against == "iteration" else "training time (s)")
        axis.set_ylim(bottom=0)
        axis.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=against == "iteration"))
    axes[0, 0].set_ylabel("training loss of R5 (nats)")
    axes[0, -1].legend(loc="upper right")
    figure.tight_layout()
    return _unshown(figure)


def average_precision_lists(lists: Sequence[tuple[str, Sequence[bool], Mapping[str, float]]]) -> Figure:
    """Figure 4: rank lists as framed boxes, true matches green, with AP in both definitions and CMC at rank 1.

    `lists`: (title, relevance of the ranked images, {"step": AP, "trapezoid": AP, "cmc": CMC at rank 1}).
    """
    style()
    figure, axis = plt.subplots(figsize=(7.6, 0.9 * len(lists) + 0.5))
    for row, (title, relevant, values) in enumerate(lists):
        y = -row
        axis.text(-0.35, y, title, va="center", ha="right", fontsize=11)
        for rank, hit in enumerate(relevant, start=1):
            colour = RIGHT if hit else WRONG
            box = plt.Rectangle((rank - 0.95, y - 0.36), 0.8, 0.72, fill=False, edgecolor=colour, linewidth=3)
            axis.add_patch(box)
            mark = f"rank {rank}\n" + ("match" if hit else "other")
            axis.text(rank - 0.55, y, mark, ha="center", va="center", fontsize=8, color=colour)
        text = f"AP {values['step']:.2f} (step)   {values['trapezoid']:.2f} (trapezoid)   CMC {values['cmc']:.0f}"
        axis.text(len(relevant) + 0.15, y, text, va="center", fontsize=9)
    axis.set(xlim=(-0.8, max(len(item[1]) for item in lists) + 3.6), ylim=(-len(lists) + 0.45, 0.55))
    axis.axis("off")
    return _unshown(figure)


def rank_lists(examples: Sequence[Mapping], *, top: int = 10) -> Figure:
    """Figure 5: a query's rank lists one above the other; matches framed green and ticked, others red, junk grey.

    Each example: {"query": path, "title": str, "lists": [(label, DataFrame)]} with the frames of
    `reid_core.evaluation.ranked` plus `image_path`.
    """
    style()
    rows = sum(len(example["lists"]) for example in examples)
    figure, axes = plt.subplots(
        rows, top + 1, figsize=(1.02 * (top + 1) + 1.6, 2.15 * rows), squeeze=False,
        gridspec_kw={"wspace": 0.08, "hspace": 0.28},
    )  # fmt: skip
    line = 0
    for example in examples:
        for label, ranked in example["lists"]:
            _picture(axes[line, 0], example["query"], QUERY, "query")
            axes[line, 0].text(-0.12, 0.5, f"{example['title']}\n{label}", ha="right", va="center", fontsize=8,
                               transform=axes[line, 0].transAxes)  # fmt: skip
            for place in range(top):
                axis = axes[line, place + 1]
                if place >= len(ranked):
                    axis.axis("off")
                    continue
                shown = ranked.iloc[place]
                colour = JUNK if shown["flag"] else RIGHT if shown["is_match"] else WRONG
                rank = shown["flag"] or f"{int(shown['rank'])}{' ✓' if shown['is_match'] else ''}"
                _picture(axis, shown["image_path"], colour, rank)
            line += 1
    figure.subplots_adjust(bottom=0.01, top=0.97)
    return _unshown(figure)


def _picture(axis, path: str, colour: str, title: str) -> None:
    with Image.open(path) as image:
        axis.imshow(image.convert("RGB").resize((64, 128), Image.Resampling.BILINEAR))
    axis.set_title(title, fontsize=7, color=colour, pad=4)
    axis.set(xticks=[], yticks=[])
    axis.grid(False)
    for spine in axis.spines.values():
        spine.set(visible=True, color=colour, linewidth=2.6)


def people(
    sets: Mapping[str, pd.DataFrame], facts: Mapping[str, object], *, each: int = 2, top: int = 12
) -> Figure:
    """Sample images: per set, `each` people, a row a person, up to `top` images ordered by camera."""
    style()
    chosen = []
    for name, table in sets.items():
        known = table[table["person_id"] > 0]
        counts = known.groupby("person_id")["camera_id"].agg(["nunique", "size"])
        most = counts.sort_values(["nunique", "size"], ascending=False, kind="stable").index[:each]
        chosen += [(name, person, known[known["person_id"] == person]) for person in most]
    figure, axes = plt.subplots(len(chosen), top, figsize=(0.8 * top, 1.75 * len(chosen)), squeeze=False)
    for row, (name, person, images) in zip(axes, chosen, strict=True):
        shown = images.sort_values("camera_id", kind="stable")
        shown = shown.iloc[np.unique(np.linspace(0, len(shown) - 1, min(top, len(shown))).astype(int))]
        for axis in row[len(shown) :]:
            axis.axis("off")
        for axis, image in zip(row, shown.itertuples(), strict=False):
            _picture(axis, image.image_path, "#FFFFFF", "")
            axis.set_title(f"camera {image.camera_id}", fontsize=7, color="#555555", pad=2)
        row[0].text(-0.15, 0.5, f"{paper.SET_TITLES.get(name, name.upper())}\nperson {person}", ha="right", va="center",
                    fontsize=8, transform=row[0].transAxes)  # fmt: skip
    figure.subplots_adjust(bottom=0.01, top=0.98)
    source_line(figure, facts["data_source"], facts["profile"])
    return _unshown(figure)
