"""Where in an image R5, C1 and C2 respond, and where a gallery image resembles its query; figures of a look inside.

The paper shows none. **Response** of a feature map at a place: the length over the channels of its vector there,
response(p) = ||x(p)||, the square root of the activation-based attention map F2sum of Zagoruyko and Komodakis ("Paying
More Attention to Attention", ICLR 2017, Section 3.1). It knows no class and no query.

**Similarity** to a query: the cosine between the two images' features, taken apart by place. A feature is the mean of
the map over its places, divided by its length; so with q the query's feature and x the other image's map

    cosine = mean over p of similarity(p),   similarity(p) = q . x(p) / ||mean of x||

exactly. This is class activation mapping (Zhou et al., CVPR 2016) with the query's feature for a class's weights, as
in Stylianou et al., "Visualizing Deep Similarity Networks", WACV 2019. Under maximum pooling the mean of the map is not
the feature, and the similarity is only that of the means.

C1 and C2 are the merged maps themselves (the plain form of `reid_core.model`), although training pools before it merges
wherever that gives the same: the mean of such a map over its places is the pooled form's vector.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from reid_core import evaluation, images, machine
from reid_core.datasets.table import PATH
from reid_core.matching import Matched
from reid_core.training import run_folder
from reproduction import paper, plots

COLOURS = "viridis"  # of maps; dark is low and bright is high for every eye, and in grey


@torch.inference_mode()
def extract(run_dir: str | Path, paths: Sequence[str], *, device=None) -> dict[str, np.ndarray]:
    """The maps behind each output of a finished run: {"r5": (n, channels, height, width), "c1": ..., "c2": ...}.

    float32, in the order of `paths`; all are held in memory, 19 MiB an image for HCN on ResNet-50 at 224 pixels.
    Raises FileNotFoundError for a missing run or image, ValueError for an unfinished run or a broken image."""
    network, run = run_folder.load_network(run_dir)
    network.to(device := machine.choose(device))
    size = run["recipe"]["height"], run["recipe"]["width"]
    blocks = []
    for batch in images.streamed(list(paths), *size, batch_size=16, device=device):
        maps = network.maps(batch)
        blocks.append({name: maps[name].float().cpu().numpy() for name in network.widths})
    return {name: np.concatenate([block[name] for block in blocks]) for name in network.widths}


def response(maps: np.ndarray) -> np.ndarray:
    """Length over the channels at every place: (n, height, width) of maps (n, channels, height, width).

    >>> response(np.float32([[[[3, 0]], [[4, 1]]]])).tolist()
    [[[5.0, 1.0]]]
    """
    return np.linalg.norm(maps, axis=1)


def similarity(query: np.ndarray, maps: np.ndarray) -> np.ndarray:
    """Each place's part in the similarity to a query: (n, height, width), whose mean over the places is the cosine.

    `query`: the query's map (channels, height, width); `maps`: (n, channels, height, width). The parts are signed
    where the maps are: C1 and C2 have no ReLU after merging.

    >>> similarity(np.float64([[[1]], [[0]]]), np.float64([[[[6, 0]], [[0, 8]]]])).round(6).tolist()
    [[[1.2, 0.0]]]
    """
    direction = query.mean((1, 2)) / max(np.linalg.norm(query.mean((1, 2))), 1e-12)
    lengths = np.linalg.norm(maps.mean((2, 3)), axis=1)
    return np.einsum("c,nchw->nhw", direction, maps) / np.maximum(lengths, 1e-12)[:, None, None]


def upsampled(maps: np.ndarray, height: int, width: int) -> np.ndarray:
    """Maps (n, h, w) at an image's size, (n, height, width): bilinear between the centres of the places.

    >>> upsampled(np.float32([[[0, 4]]]), 1, 4).tolist()
    [[[0.0, 1.0, 3.0, 4.0]]]
    """
    values = torch.from_numpy(np.ascontiguousarray(maps, np.float32))[None]
    return torch.nn.functional.interpolate(values, (height, width), mode="bilinear")[0].numpy()


def companions(matched: Matched, query: int, matches: int = 2) -> pd.DataFrame:
    """A query, its nearest true matches and the nearest other person: image_path, kind (query, match, other), rank
    (from 1, under the protocol; 0 for the query)."""
    about, gallery = matched.query.iloc[query], matched.gallery
    ranked = evaluation.ranked(matched.distance[query], about, gallery, top=len(gallery))
    ranked = ranked[ranked["rank"].notna()]
    hit = ranked["is_match"].to_numpy(bool)
    chosen = pd.concat([ranked[hit].head(matches), ranked[~hit].head(1)])
    kinds = ["query", *np.where(chosen["is_match"], "match", "other")]
    paths = [about[PATH], *gallery[PATH].iloc[chosen["gallery_index"]]]
    return pd.DataFrame({PATH: paths, "kind": kinds, "rank": [0, *chosen["rank"].astype(int)]})


def example(why: str, query: int, matched: Matched, run_dir: str | Path) -> dict:
    """What `maps_figure` draws for one query: its companions, and their maps by output.

    {"title": str, "pictures": DataFrame of `companions`, "response": {output: (n, h, w)}, "similarity": the same}"""
    pictures = companions(matched, query)
    maps = extract(run_dir, list(pictures[PATH]))
    made = {"response": {name: response(x) for name, x in maps.items()},
            "similarity": {name: similarity(x[0], x) for name, x in maps.items()}}  # fmt: skip
    return {"title": f"query {query}: {why}", "pictures": pictures} | made


def scores_figure(table: pd.DataFrame) -> Figure:
    """mAP of each output as the retrieval feature, and of all joined: a column a set, a row a metric, then re-ranked.

    `table` as from `scoring.score_outputs`, mAP in per cent: the mean over seeds, with a bar from the lowest
    to the highest. The baseline, which has R5 alone, is a line."""
    plots.style()
    names = list(table["set"].unique())
    outputs = sorted(table["output"].unique(), key=lambda output: (len(output), output != "r5", output))
    ways = [(metric, again) for metric in table["metric"].unique() for again in (False, True)]
    size = (plots.WIDTH, 1.5 * len(ways) + 0.6)
    figure, axes = plt.subplots(len(ways), len(names), figsize=size, sharex=True, sharey=True, squeeze=False)
    for row, (metric, again) in zip(axes, ways, strict=True):
        row[0].set_ylabel(f"{plots.METRICS[metric]}{', re-ranked' if again else ''}\nmAP (%)")
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
        axis.axhline(scores.loc["r5", "mean"], color=colour, linestyle=plots.DASHES[model], label=f"{title}, R5")
        return
    places = np.array([outputs.index(output) for output in scores.index]) + {"hcn": -0.12}.get(model, 0.12)
    axis.vlines(places, scores["min"], scores["max"], color=colour, linewidth=1)
    axis.plot(places, scores["mean"], plots.MARKERS[model], color=colour, markersize=5, label=title)


def maps_figure(examples: Sequence[Mapping]) -> Figure:
    """Pictures of each example with the maps of R5, C1, C2 below: their response, then their similarity to the query.

    `examples` as from :func:`example`. A row has one scale from dark to bright, printed beside it
    with the map's size; over a map of similarity stands its mean, the cosine of the two features."""
    plots.style()
    kinds = [(kind, output) for kind in ("response", "similarity") for output in examples[0][kind]]
    columns = max(len(example["pictures"]) for example in examples)
    figure, axes = plots.sheet(1 + len(kinds), columns * len(examples), left=0.95, groups=len(examples))
    looks = {"query": (plots.QUERY_COLOUR, "query"), "match": (plots.RIGHT, "{} ✓"), "other": (plots.WRONG, "{} ✗")}
    for number, example in enumerate(examples):
        shown = axes[0, number * columns :]
        for axis, one in zip(shown, example["pictures"].itertuples(), strict=False):
            colour, title = looks[one.kind]
            plots.picture(axis, one.image_path, colour, title.format(one.rank))
        figure.text(shown[0].get_position().x0, 1.01, example["title"], va="bottom", fontsize=8)
    for row, (kind, output) in zip(axes[1:], kinds, strict=True):
        low, high = (end([end(example[kind][output]) for example in examples]) for end in (np.min, np.max))
        for number, example in enumerate(examples):
            for axis, values in zip(row[number * columns :], example[kind][output], strict=False):
                shown = upsampled(values[None], *reversed(plots.SIZE))[0]
                axis.imshow(shown, cmap=COLOURS, vmin=low, vmax=high, aspect="auto")
                if kind == "similarity":
                    axis.set_title(f"{values.mean():.2f}", fontsize=plots.SMALL, pad=3)
        size = "×".join(map(str, values.shape))
        plots.row_label(row[0], f"{output.upper()} ({size})\n{kind}\n{low:.2g} to {high:.2g}")
    return plots.unshown(figure)
