"""Where in an image R5, C1 and C2 respond, and where a gallery image resembles its query. The paper shows no such maps.

**Response** of a feature map at a place: the length over the channels of its vector there,

    response(p) = ||x(p)||

which is the square root of the activation-based attention map F2sum of Zagoruyko and Komodakis ("Paying More
Attention to Attention", ICLR 2017, Section 3.1). It knows no class and no query.

**Similarity** to a query: the cosine between the two images' features, taken apart by place. A feature is the mean of
the map over its places, divided by its length; so with q the query's feature and x the other image's map

    cosine = mean over p of similarity(p),   similarity(p) = q . x(p) / ||mean of x||

exactly. This is class activation mapping (Zhou et al., CVPR 2016) with the query's feature for a class's weights, as
in Stylianou et al., "Visualizing Deep Similarity Networks", WACV 2019. Under maximum pooling the mean of the map is not
the feature, and the similarity is only that of the means.

C1 and C2 are the merged maps themselves (the plain form of `reid_core.model`), although training pools before it merges
wherever that gives the same: the mean of such a map over its places is the pooled form's vector.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from reid_core import evaluation, images, machine
from reid_core.datasets.table import PATH
from reid_core.training import run_folder
from reproduction import scoring


@torch.inference_mode()
def extract(
    run_dir: str | Path, paths: Sequence[str], *, device: str | torch.device | None = None
) -> dict[str, np.ndarray]:
    """The maps behind each output of a finished run: {"r5": (n, channels, height, width), "c1": ..., "c2": ...}.

    float32, in the order of `paths`; all are held in memory, 19 MiB an image for HCN on ResNet-50 at 224 pixels.
    Raises FileNotFoundError for a missing run or image, ValueError for an unfinished run or a broken image.
    """
    network, run = run_folder.load_network(run_dir)
    device = machine.choose(device)
    network.to(device)
    size = run["recipe"]["height"], run["recipe"]["width"]
    blocks: dict[str, list[np.ndarray]] = {name: [] for name in network.widths}
    for batch in images.streamed(list(paths), *size, batch_size=16, device=device):
        maps = network.maps(batch)
        for name, block in blocks.items():
            block.append(maps[name].float().cpu().numpy())
    return {name: np.concatenate(block) for name, block in blocks.items()}


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
    direction = _normalised(query.mean((1, 2)))
    lengths = np.linalg.norm(maps.mean((2, 3)), axis=1)
    return np.einsum("c,nchw->nhw", direction, maps) / np.maximum(lengths, 1e-12)[:, None, None]


def upsampled(maps: np.ndarray, height: int, width: int) -> np.ndarray:
    """Maps (n, h, w) at an image's size, (n, height, width): bilinear between the centres of the places.

    >>> upsampled(np.float32([[[0, 4]]]), 1, 4).tolist()
    [[[0.0, 1.0, 3.0, 4.0]]]
    """
    values = torch.from_numpy(np.ascontiguousarray(maps, np.float32))[None]
    return torch.nn.functional.interpolate(values, (height, width), mode="bilinear")[0].numpy()


def companions(matched: scoring.Matched, query: int, matches: int = 2) -> pd.DataFrame:
    """A query, its nearest true matches and the nearest other person.

    Columns: image_path, kind (query, match, other), rank (from 1, under the protocol; 0 for the query).
    """
    about, gallery = matched.query.iloc[query], matched.gallery
    ranked = evaluation.ranked(matched.distance[query], about, gallery, top=len(gallery))
    ranked = ranked[ranked["rank"].notna()]
    hit = ranked["is_match"].to_numpy(bool)
    chosen = pd.concat([ranked[hit].head(matches), ranked[~hit].head(1)])
    return pd.DataFrame({
        PATH: [about[PATH], *gallery[PATH].iloc[chosen["gallery_index"]]],
        "kind": ["query", *np.where(chosen["is_match"], "match", "other")],
        "rank": [0, *chosen["rank"].astype(int)],
    })  # fmt: skip


def example(why: str, query: int, matched: scoring.Matched, run_dir: str | Path) -> dict:
    """What `reproduction.response_plots.maps` draws for one query: its companions, and their maps by output.

    {"title": str, "pictures": DataFrame of `companions`, "response": {output: (n, h, w)}, "similarity": the same}
    """
    pictures = companions(matched, query)
    maps = extract(run_dir, list(pictures[PATH]))
    return {
        "title": f"query {query}: {why}", "pictures": pictures,
        "response": {name: response(x) for name, x in maps.items()},
        "similarity": {name: similarity(x[0], x) for name, x in maps.items()},
    }  # fmt: skip


def _normalised(vector: np.ndarray) -> np.ndarray:
    return vector / max(np.linalg.norm(vector), 1e-12)
