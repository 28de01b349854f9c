"""The table as a picture: how far each choice moves the scores, and how sure that is."""

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from reproduction import paper, plots
from reproduction.tables import MEASURED, SCORES

MARKS = {paper.CUHK03_DETECTED: "^", paper.CUHK03_LABELED: "o", paper.MARKET1501: "s"}
SHIFTS = dict(zip(MARKS, (-0.22, 0.0, 0.22), strict=True))  # rows, so that the marks of a row stay apart


def draw(table: pd.DataFrame) -> Figure:
    """One row a choice and other option, one mark a set: the difference of rank-1 (left) and mAP (right), in points.

    `table`: lines of `reproduction.sensitivity.table`, one a row and set; those not measured are left out. Whiskers are
    the 95% interval; a mark is full only where it leaves 0 out. An arrow at the edge, with its number, stands for a
    mark further out than the widest interval is wide."""
    plots.style()
    table = table[table["status"] == MEASURED]
    places = _places(table)
    bottom = max(places.values(), default=0.0)
    figure, axes = plt.subplots(1, 2, figsize=(plots.WIDTH, 0.19 * bottom + 0.8), sharey=True)
    for axis, score, title in zip(axes, SCORES, ("rank-1", "mAP"), strict=True):
        edge = (table[f"{score}_high"] - table[f"{score}_low"]).max()
        for line in table.to_dict("records"):
            _draw_line(axis, line, score, places[_row(line)], edge if np.isfinite(edge) and edge > 0 else np.inf)
        axis.axvline(0, color=plots.PLAIN, linewidth=0.8)
        axis.set_xlabel(f"difference of {title} (points)")
        axis.grid(False, axis="y")
    labels = [f"{choice}: {default} → {other}" for _, choice, default, other in places]
    axes[0].set_yticks(list(places.values()), labels, fontsize=plots.SMALL)
    axes[0].set_ylim(bottom + 0.8, 0.2)
    figure.tight_layout()
    handles = [plt.Line2D([], [], marker=mark, linestyle="", color=plots.PLAIN, label=paper.SET_TITLES[name])
               for name, mark in MARKS.items() if name in set(table["set"])]  # fmt: skip
    handles += [plt.Line2D([], [], marker="o", color=plots.PLAIN, markerfacecolor=fill, label=label, linewidth=1.1)
                for fill, label in ((plots.PLAIN, "95% interval, 0 outside"), ("white", "0 inside"))]  # fmt: skip
    figure.legend(handles=handles, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=len(handles),
                  borderaxespad=0)  # fmt: skip
    return plots.unshown(figure)


def _row(line: dict) -> tuple[str, str, str, str]:
    return line["kind"], line["choice"], line["default"], line["other"]


def _places(table: pd.DataFrame) -> dict[tuple[str, str, str, str], float]:
    """Where each row stands, in the table's order from the top, with a gap between kinds."""
    places: dict[tuple[str, str, str, str], float] = {}
    place, kind = 0.0, None
    for row in dict.fromkeys(map(_row, table.to_dict("records"))):
        place += 1.0 if kind in (None, row[0]) else 1.6
        places[row], kind = place, row[0]
    return places


def _draw_line(axis, line: dict, score: str, place: float, edge: float) -> None:
    colour, y = plots.COLOURS[line["model"]], place + SHIFTS[line["set"]]
    value, low, high = (line[f"{score}_{part}"] for part in ("difference", "low", "high"))
    axis.plot(np.clip([low, high], -edge, edge), [y, y], color=colour, linewidth=1.1)
    if abs(value) <= edge:
        fill = colour if low > 0 or high < 0 else "white"
        axis.plot(value, y, MARKS[line["set"]], color=colour, markersize=4, markerfacecolor=fill, markeredgewidth=0.8)
        return
    side = np.sign(value)
    axis.update_datalim([(1.45 * side * edge, y)])  # room for the number, outside all whiskers
    axis.plot(side * edge, y, "<" if side < 0 else ">", color=colour, markersize=4, markeredgewidth=0)
    axis.annotate(f"{value:+.1f}".replace("-", "−"), (side * edge, y), (4 * side, 0), textcoords="offset points",
                  ha="right" if side < 0 else "left", va="center", fontsize=plots.SMALL, color=colour)  # fmt: skip
