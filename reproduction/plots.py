"""The kit's figures: Tables 1-4, Figure 3 (loss curves), Figure 4 (AP and CMC), Figure 5 (rank lists); one style.

Colours are Okabe and Ito's colour-blind safe ones, the same for a method in every figure; dashes, markers, ticks and
widths of frames say the same without colour. Figures are WIDTH wide, the text of a printed page, so that their letters
are printed at their own size, 7 points or more. Each figure names its data source. `save` writes what functions return.
"""

import itertools
from collections import namedtuple
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from reid_core import files, images
from reproduction import paper, sidecar, tables
from reproduction.convergence import smooth
from reproduction.experiment import source_set
from reproduction.words import duration

WIDTH = 7.2  # inches: what an A4 page leaves between its margins
COLOURS = {"baseline": "#0072B2", "hcn": "#D55E00", "combined": "#009E73", "other": "#595959", "counted": "#222222"}
DASHES = {"baseline": (0, (4, 1.2)), "hcn": "-", "combined": (0, (1, 1)), "other": "-", "counted": "-"}
MARKERS = {"baseline": "o", "hcn": "s", "combined": "D", "other": "x", "counted": "o"}
TITLES = {"baseline": "Baseline (backbone alone)", "hcn": "HCN", "combined": "HCN, combined set",
          "other": "Methods of the literature", "counted": "Counted here"}  # fmt: skip
PRINTED = "As printed in the paper"
METRICS = {"euclidean": "Euclidean", "xqda": "XQDA"}
RIGHT, WRONG, JUNK_COLOUR, QUERY_COLOUR, PLAIN = "#009E73", "#CC3311", "#595959", "#222222", "#444444"
KINDS = {"match": RIGHT, "other": WRONG, "passed over": JUNK_COLOUR}  # of `caption`
FRAMES = {RIGHT: 2.6, WRONG: 1.2, JUNK_COLOUR: 1.2, QUERY_COLOUR: 2.6, PLAIN: 0.0}  # points
SMALL = 7  # points, the smallest letters
GRAY = "#555555"  # of what is said aside
BAND = "#DADADA"  # of a range behind the marks

# Rank lists, in pixels of their pictures: width and height of one, from one to the next, after the query, at the side
SIZE, PITCH, GAP, SIDE = (64, 128), 76, 12, 4
# heights of an example's title, a list, what is under its pictures, the last line; ten places are WIDTH wide
TITLE, LIST, UNDER, FOOT = 26, 192, 22, 20
DENSITY = (11 * PITCH + GAP) / WIDTH  # pixels an inch


def style() -> None:
    """Set the kit's one style: white ground, light grid, text stays text in SVG, reproducible identifiers."""
    sizes = dict.fromkeys(("font.size", "axes.labelsize", "xtick.labelsize", "ytick.labelsize", "legend.fontsize"), 8)
    sns.set_theme(context="paper", style="whitegrid", rc=sizes | {
        "font.family": "sans-serif", "font.sans-serif": ["DejaVu Sans", "Verdana"], "axes.titlesize": 9,
        "figure.dpi": 110, "savefig.dpi": 200, "savefig.pad_inches": 0.02,
        "axes.spines.top": False, "axes.spines.right": False,
        "grid.color": "#E5E5E5", "axes.edgecolor": "#666666", "legend.frameon": False,
        "svg.fonttype": "none", "svg.hashsalt": "reid-core",
    })  # fmt: skip


def save(figure: Figure, stem: str | Path, **facts) -> list[Path]:
    """Write `stem`.png and `stem`.svg, each in one step, and the sidecar `stem`.json; close the figure."""
    written = [Path(stem).with_suffix(suffix) for suffix in (".png", ".svg")]
    for path, metadata in zip(written, ({"Software": None}, {"Date": None}), strict=True):
        with files.replacing(path) as temporary:
            figure.savefig(temporary, bbox_inches="tight", metadata=metadata)
    plt.close(figure)
    sidecar.write_sidecar(stem, **facts)
    return written


def unshown(figure: Figure) -> Figure:
    """Take a figure from pyplot, which would show it once more at the end of a notebook's cell."""
    plt.close(figure)
    return figure


def source_text(data_source: str, profile: str, extra: str = "") -> str:
    """What a figure was drawn from, so that embedded results are never taken for the paper's."""
    known = {"embedded": "embedded (rendered) data", "official": "official data"}
    return f"{known.get(data_source, data_source)} · profile {profile}" + (f" · {extra}" if extra else "")


def source_line(figure: Figure, data_source: str, profile: str, extra: str = "") -> None:
    """Print `source_text` under a figure."""
    below, text = -0.06 / figure.get_figheight(), source_text(data_source, profile, extra)  # inches
    figure.text(0.5, below, text, ha="center", va="top", fontsize=SMALL, color=GRAY)


def loss_curves(runs: Mapping[str, Mapping[str, list]], window: int, *, against: str = "iteration") -> Figure:
    """Figure 3: training loss of R5, HCN against ResNet-50, one panel a set, smoothed over raw.

    `runs[set][model]`: loss tables (iteration, loss_r5, seconds), one a seed; `window`: iterations of the moving
    average; `against`: iteration (the paper's axis) or seconds (wall time). Of several seeds the line is the mean of
    the averages, in a band from the lowest to the highest, at the mean time of an iteration."""
    style()
    figure, axes = plt.subplots(1, len(runs), figsize=(WIDTH, 2.5), sharey=True, squeeze=False)
    for axis, (letter, (name, models)) in zip(axes[0], zip("abc", runs.items(), strict=False), strict=True):
        for model, losses in models.items():
            colour = COLOURS[model]
            for loss in losses:
                axis.plot(loss[against], loss["loss_r5"], color=colour, alpha=0.4 / (1 + len(losses)), linewidth=0.6)
            count = min(map(len, losses))
            steps = np.mean([loss[against][:count] for loss in losses], axis=0)
            smoothed = [smooth(loss["loss_r5"], window)[:count] for loss in losses]
            axis.plot(steps, np.mean(smoothed, axis=0), color=colour, linewidth=1.6, linestyle=DASHES[model],
                      label=TITLES[model])  # fmt: skip
            if len(losses) > 1:
                axis.fill_between(steps, np.min(smoothed, axis=0), np.max(smoothed, axis=0), color=colour, alpha=0.25,
                                  linewidth=0)  # fmt: skip
        axis.set(title=f"({letter}) {paper.SET_TITLES[name]}", ylim=(0, None),
                 xlabel="iteration" if against == "iteration" else "training time (s)")  # fmt: skip
        axis.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=against == "iteration"))
    axes[0, 0].set_ylabel("training loss of R5 (nats)")
    figure.tight_layout()
    lines = axes[0, -1].get_legend_handles_labels()
    figure.legend(*lines, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, borderaxespad=0)
    return unshown(figure)


# What stands in a row of a panel, (title, unit): each value, their mean, its interval, and what is printed elsewhere
Mark = namedtuple("Mark", "panel row kind each mean low high printed", defaults=[np.nan] * 4)


def counts(identities: pd.DataFrame, subsets: pd.DataFrame) -> Figure:
    """Table 1 drawn: a row a data set, people in all, for training and for testing, and images a subset; a mark what
    was counted, another what is published. `identities`, `subsets`: of `tables.table1` and `table1_subsets`, with
    their facts, both of the same image tables."""
    titles = subsets["name"].map(source_set).replace(tables.TITLES).str.removesuffix(".csv")
    words = zip(("in all", "for training", "for testing"), tables.IDENTITIES, strict=True)
    parts = [((title, "people"), column, identities.set_index("dataset")) for title, column in words]
    parts += [
        ((subset, "images"), "images", part) for subset, part in subsets.set_index(titles).groupby("subset", sort=False)
    ]
    marks = [Mark(panel, row, "counted", [line[f"{column} found"]], printed=line[f"{column} published"])
             for panel, column, table in parts
             for row, line in table.select_dtypes("number").astype(float).iterrows()]  # fmt: skip
    return _rows(marks, identities, "counted, so without an interval", "As published", "log")


def times(table: pd.DataFrame, runs: pd.DataFrame) -> Figure:
    """Table 4 drawn: a row a training and its time, here and in the paper, as shares of the three baselines' total; a
    mark a seed, a tick their mean. `table`: of `tables.table4`, made of `runs`."""
    table = table.astype({"ours_hours": float})
    ours, theirs = table.loc[table["train_set"] == "total", ["ours_hours", "paper_hours"]].iloc[0]
    here = tables.NOT_YET if np.isnan(ours) else duration(3600 * ours)
    panel = "", f"share of the three baselines' total (%), here {here}, in the paper {theirs:.0f} h"
    marks = []
    for line in table[table["train_set"] != paper.COMBINED].to_dict("records"):
        behind = runs[runs["run"].isin(line["runs"].split()) & (line["status"] == tables.MEASURED)]
        each = behind.groupby("seed")["hours"].sum(min_count=behind["train_set"].nunique())
        row = f"{line['method']}: {paper.SET_TITLES.get(line['train_set'], line['train_set'])}"
        kind = {"Zhong [13]": "baseline", "Our": "combined"}.get(line["method"], "hcn")
        marks.append(Mark(panel, row, kind, 100 * each / ours, 100 * line["ours_hours"] / ours,
                          printed=100 * line["paper_hours"] / theirs))  # fmt: skip
    return _rows(marks, table, "a mark a seed, the tick their mean")


def scores(table: pd.DataFrame, every_score: pd.DataFrame, measures: Sequence[str] = tables.SCORES) -> Figure:
    """Table 2 or 3 drawn: a row a method and a panel a set and score; a mark a seed, their mean, its 95% interval, and
    on official data the paper's figure.

    `table` : of `tables.compare`, with its facts; what was not measured is left out.
    `every_score` : the scores that it was made of, rank-1 and mAP in fractions."""
    marks = []
    for line in table[table["status"] == tables.MEASURED].to_dict("records"):
        kind = "other" if line["model"] == "literature" else line["model"]
        seeds = tables.behind(pd.Series(line), line["set"], every_score)
        for measure in measures:
            panel = paper.SET_TITLES[line["set"]], {"rank1": "rank-1 (%)", "mAP": "mAP (%)"}[measure]
            ends = (line[f"ours_{measure}{end}"] for end in ("", "_low", "_high"))
            printed = line[f"paper_{measure}"] if line["data_source"] == "official" else np.nan
            marks.append(Mark(panel, line["method"], kind, 100 * seeds[measure], *ends, printed))
    return _rows(marks, table, "a mark a seed, the tick their mean, the line its 95% interval")


def _rows(marks: Sequence[Mark], facts: pd.DataFrame, words: str, printed: str = PRINTED, scale="linear") -> Figure:
    """The marks of a table, in every panel the first row above; `facts`: columns data_source and profile."""
    style()
    kinds = dict(reversed({mark.row: mark.kind for mark in marks}.items()))
    panels = list(dict.fromkeys(mark.panel for mark in marks)) or [("", tables.NOT_YET)]
    size, look = (WIDTH, 0.165 * max(len(kinds), 4) + 0.65), {"xscale": scale, "ylim": (-0.6, len(kinds) - 0.4)}
    figure, axes = plt.subplots(1, len(panels), figsize=size, sharex=True, sharey=True, squeeze=False, subplot_kw=look)
    for axis, panel in zip(axes[0], panels, strict=True):
        for mark in marks:
            if mark.panel == panel:
                _draw(axis, list(kinds).index(mark.row), mark, printed)
        axis.set(title=panel[0], xlabel=panel[1])
        if scale == "log":
            axis.xaxis.set_major_formatter(EngFormatter(sep=""))
        else:
            axis.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
        axis.minorticks_off()
        axis.grid(False, axis="y")
        for y, (below, above) in enumerate(itertools.pairwise(kinds.values())):
            if below != above:
                axis.axhline(y + 0.5, color=BAND, linewidth=0.8)
    axes[0, 0].set_yticks(range(len(kinds)), kinds, fontsize=SMALL)
    figure.tight_layout(w_pad=0.6)
    known = {line.get_label(): line for axis in axes[0] for line in axis.lines if line.get_label()[0] != "_"}
    known = dict(sorted(known.items(), key=lambda item: item[0] == printed))
    figure.legend(known.values(), known, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=5, borderaxespad=0,
                  fontsize=SMALL, columnspacing=1, handletextpad=0.1)  # fmt: skip
    source_line(figure, *facts[["data_source", "profile"]].iloc[0], words)
    return unshown(figure)


def _draw(axis, y: int, mark: Mark, printed: str) -> None:
    colour, look = COLOURS[mark.kind], {"markersize": 3, "markeredgewidth": 0.8, "linestyle": ""}
    axis.plot([mark.low, mark.high], [y, y], color=colour, linewidth=1.2)
    axis.plot(mark.mean, y, "|", color=colour, markersize=8, markeredgewidth=1.2)
    if len(mark.each):
        axis.plot(mark.each, [y] * len(mark.each), MARKERS[mark.kind], color=colour, label=TITLES[mark.kind], **look)
    if not np.isnan(mark.printed):
        look |= {"markersize": 5, "markerfacecolor": "none", "markeredgecolor": "black"}
        axis.plot(mark.printed, y, "v", label=printed, **look)


def average_precision_lists(lists: Sequence[tuple[str, Sequence[bool], Mapping[str, float]]]) -> Figure:
    """Figure 4: rank lists as framed boxes, true matches green, with AP in both definitions and CMC at rank 1; `lists`:
    (title, relevance of the ranked images, {"step": AP, "trapezoid": AP, "cmc": CMC at rank 1})."""
    style()
    figure, axis = plt.subplots(figsize=(WIDTH, 0.85 * len(lists) + 0.3))
    for y, (title, relevant, values) in zip(range(0, -len(lists), -1), lists, strict=True):
        axis.text(-0.25, y, title, va="center", ha="right", fontsize=10)
        for rank, hit in enumerate(relevant, start=1):
            colour = RIGHT if hit else WRONG
            look = {"fill": False, "edgecolor": colour, "linewidth": FRAMES[colour]}
            axis.add_patch(plt.Rectangle((rank - 0.95, y - 0.36), 0.8, 0.72, **look))
            mark = f"rank {rank}\n" + ("match ✓" if hit else "other")
            axis.text(rank - 0.55, y, mark, ha="center", va="center", color=colour)
        text = f"AP {values['step']:.2f} (step)   {values['trapezoid']:.2f} (trapezoid)   CMC {values['cmc']:.0f}"
        axis.text(len(relevant) + 0.15, y, text, va="center")
    axis.set(xlim=(-0.6, max(len(item[1]) for item in lists) + 2.75), ylim=(-len(lists) + 0.45, 0.55))
    axis.axis("off")
    figure.subplots_adjust(left=0, right=1, bottom=0, top=1)
    return unshown(figure)


def rank_lists(examples: Sequence[Mapping], source: str, *, places: int = 10) -> Figure:
    """Figure 5: a query's rank lists one above the other, each image with its camera and distance.

    Matches have broad green frames and a tick, others narrow red ones and a cross; images that the scoring passes over
    are pale with gray frames. Each example: {"query": path, "title": str, "lists": [(label, images of
    `ranklists.shown`)]}; at least `places` wide. `source` is the line of `source_text`. All is on one axis, with one
    picture a list, so that an explorer can draw it at every click."""
    style()
    places = max(places, *(len(ranked) for example in examples for _, ranked in example["lists"]))
    width = (places + 1) * PITCH + GAP
    height = sum(TITLE + LIST * len(example["lists"]) for example in examples) + FOOT
    figure = plt.figure(figsize=(width / DENSITY, height / DENSITY))
    axis = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
    axis.axis("off")
    y = 0
    for example in examples:
        axis.text(SIDE, y + 0.6 * TITLE, example["title"], fontsize=8, fontweight="bold", va="center")
        y += TITLE
        for label, ranked in example["lists"]:
            axis.text(SIDE, y + 8, label, fontsize=SMALL, va="center")
            _rank_list(axis, y + LIST - UNDER - SIZE[1], example["query"], ranked, width)
            y += LIST
    axis.text(width / 2, y + FOOT / 2, source, fontsize=SMALL, color=GRAY, ha="center", va="center")
    return unshown(figure)


def _rank_list(axis, top: float, query: str, ranked: Sequence, width: float) -> None:
    """One list at height `top`, in pixels of its pictures: the query, a gap, the images nearest first."""
    wide, high = SIZE
    canvas, corners, colours = np.full((high, int(width), 3), 255, np.uint8), [], []

    def add(x: int, path: str, colour: str, above: str, below: str) -> None:
        pixels = images.decode(path, high, wide)
        canvas[:, x : x + wide] = 255 - (255 - pixels) // 2 if colour == JUNK_COLOUR else pixels
        corners.append(plt.Rectangle((x, top), wide, high))
        colours.append(colour)
        centre = {"x": x + wide / 2, "fontsize": SMALL, "ha": "center"}
        axis.text(y=top - 5, s=above, color=colour, va="bottom", **centre)
        axis.text(y=top + high + 5, s=below, color=GRAY, va="top", **centre)

    add(SIDE, query, QUERY_COLOUR, "query", "")
    for place, image in enumerate(ranked, start=1):
        kind, above, below = caption(image)
        add(SIDE + GAP + place * PITCH, image.image_path, KINDS[kind], above, below)
    axis.imshow(canvas, extent=(0, canvas.shape[1], top + high, top), aspect="auto", zorder=1)
    look = {"facecolors": "none", "edgecolors": colours, "linewidths": [FRAMES[colour] for colour in colours]}
    axis.add_collection(PatchCollection(corners, **look, zorder=2))


def caption(image) -> tuple[str, str, str]:
    """What stands around one image of `ranklists.shown`: its kind, the words above and below."""
    below = f"c{image.camera_id} · {image.distance:.3g}"
    if image.flag:
        return "passed over", image.flag.replace("camera", "cam."), below
    return ("match", f"{image.rank} ✓", below) if image.is_match else ("other", f"{image.rank} ✗", below)


def sheet(rows: int, columns: int, *, left: float, groups: int = 1) -> tuple[Figure, np.ndarray]:
    """A figure WIDTH wide of `rows` x `columns` axes for pictures twice as high as wide, and the array of them; `left`
    inches are kept for the rows' labels, and the columns stand in `groups` a little apart."""
    gap, apart, title = 0.05, 0.12, 0.18
    wide = (WIDTH - left - apart * (groups - 1)) / columns - gap
    pitch = 2 * wide + title
    height = rows * pitch
    figure = plt.figure(figsize=(WIDTH, height))
    axes = np.empty((rows, columns), object)
    for row, column in np.ndindex(rows, columns):
        x = left + column * (wide + gap) + apart * (column * groups // columns)
        place = (x, height - row * pitch - title - 2 * wide, wide, 2 * wide)
        axes[row, column] = figure.add_axes(tuple(np.divide(place, (WIDTH, height, WIDTH, height))))
        axes[row, column].axis("off")
    return figure, axes


def picture(axis, path: str, colour: str, title: str) -> None:
    """Draw an image in a frame whose colour and width say what it is."""
    axis.axis("on")
    axis.imshow(images.decode(path, *reversed(SIZE)), aspect="auto")
    axis.set_title(title, fontsize=SMALL, color=colour, pad=3)
    axis.set(xticks=[], yticks=[])
    axis.grid(False)
    for spine in axis.spines.values():
        spine.set(visible=True, color=colour, linewidth=FRAMES[colour])


def row_label(axis, text: str) -> None:
    """Print a row's label to the left of its first picture."""
    axis.text(-0.15, 0.5, text, ha="right", va="center", fontsize=SMALL, transform=axis.transAxes)


def people(sets: Mapping[str, pd.DataFrame], facts: Mapping[str, object], *, each: int = 2, top: int = 10) -> Figure:
    """Sample images: per set, `each` people, a row a person, up to `top` images ordered by camera."""
    style()
    chosen = []
    for name, table in sets.items():
        known = table[table["person_id"] > 0]
        counts = known.groupby("person_id")["camera_id"].agg(["nunique", "size"])
        most = counts.sort_values(["nunique", "size"], ascending=False, kind="stable").index[:each]
        chosen += [(name, person, known[known["person_id"] == person]) for person in most]
    figure, axes = sheet(len(chosen), top, left=1.05)
    for row, (name, person, seen) in zip(axes, chosen, strict=True):
        shown = seen.sort_values("camera_id", kind="stable")
        shown = shown.iloc[np.unique(np.linspace(0, len(shown) - 1, min(top, len(shown))).astype(int))]
        for axis, image in zip(row, shown.itertuples(), strict=False):
            picture(axis, image.image_path, PLAIN, f"camera {image.camera_id}")
        row_label(row[0], f"{paper.SET_TITLES.get(name, name.upper())}\nperson {person}")
    source_line(figure, facts["data_source"], facts["profile"])
    return unshown(figure)
