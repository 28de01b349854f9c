"""explorer.html: every query's rank lists by every run and metric, with their pictures, in one file without a server.

What a list holds and the words around it are those of `ranklists`, which Figure 5 and notebook 08 draw. Its last part,
`#set=...&seed=...&upper=...&lower=...&query=...`, says what it shows. Since it shows people, official ones stay apart.
"""

import base64
import io
import itertools
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from reid_core import files, images
from reid_core.datasets.table import CAMERA, PATH, PERSON
from reid_core.matching import Matching
from reproduction import explorer, paper, plots, ranklists, report, results_folder
from reproduction.experiment import Experiment
from reproduction.ranklists import Method, Ranking, Rankings

WIDE, HIGH, COLUMNS, SHEET = 48, 96, 32, 1024  # pixels of a picture; pictures in a line and in a sheet
FEW, QUALITY, COARSE = 12_000, 60, 30  # of so many pictures WebP's quality is the first, of more the second
ALL, HUNDRED = 1000, 100  # of a set with more queries than ALL: a hundred each of the worst, the best, ...


def write(given: Mapping[str, Any]) -> Path:
    """Write the explorer of the finished runs of every seed; `given` are the parameters of notebook 08.

    Returns its path: `explorer.html` in the results folder or, on official data, in the folder for what shows people.
    """
    own = sorted({given["rank_list_set"], *given.get("own_sets", ())} - set(paper.SETS))
    kit = Experiment.of({**given, "own_sets": own})
    how = Matching(**{key: given[key] for key in ("ap", "k1", "k2", "lambda_value", "xqda_solver") if key in given})
    rankings = {seed: ranklists.of_runs(kit, how, seed) for seed in kit.seeds}
    page = render(rankings, kit.facts(ap=how.ap, seeds=kit.seeds))
    return files.write_text(kit.private / results_folder.EXPLORER, page)


def render(rankings: Mapping[int, Rankings], facts: Mapping[str, Any]) -> str:
    """The page of the rankings of each seed, each made when it comes to it; `facts` as sidecars have them."""
    pictures, marks = {}, {}
    names = dict.fromkeys(name for each in rankings.values() for name in each.models)
    sets = [_set(rankings, name, pictures, marks) for name in names]
    data = {"sets": sets, "marks": list(marks), "cameras": [camera for _, camera in pictures],
            "rules": explorer.RULES, "columns": COLUMNS, "sheet": SHEET}  # fmt: skip
    values = {
        "facts": facts, "sets": sets, "sheets": list(_sheets([path for path, _ in pictures])), "frames": plots.KINDS,
        "colours": plots.COLOURS, "wide": WIDE, "high": HIGH, "columns": COLUMNS, "all": ALL,
        "data": json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c"),
    }  # fmt: skip
    return report.render("explorer", values)


def _set(rankings: Mapping[int, Rankings], name: str, pictures: dict, marks: dict) -> dict[str, Any]:
    """A set as the page holds it; new pictures and marks, (kind, words above), are numbered in the order they come."""
    chosen: list[int] = []
    seeds = {}
    for seed, each in rankings.items():
        methods = [Method(*one) for one in itertools.product(each.models.get(name, ()), plots.METRICS, (False, True))]
        ranks = {method: each(name, method) for method in methods}
        if ranks and not chosen:
            # Figure 5's pair where both models are there: its gains are those that the choice is made by
            pair = [ranks[Method(each.models[name][place], "xqda", True)] for place in (-1, 0)]
            chosen, query = choose(*(one.ap for one in pair)), pair[0].query
        if ranks:
            seeds[seed] = [_method(*one, chosen, pictures, marks) for one in ranks.items()]
    about = zip(chosen, *(query[column].iloc[chosen].tolist() for column in (PERSON, CAMERA, PATH)), strict=True)
    return {
        "name": name, "title": paper.SET_TITLES.get(name, name), "count": len(query), "seeds": seeds,
        "queries": [[number, person, camera, pictures.setdefault((path, camera), len(pictures))]
                    for number, person, camera, path in about],
    }  # fmt: skip


def _method(method: Method, ranking: Ranking, chosen: list[int], pictures: dict, marks: dict) -> dict[str, Any]:
    """The lists of the chosen queries by one method: of each image its picture, its mark and its distance in turn."""

    def shown(query: int) -> Iterable:
        for image in ranklists.shown(ranking, query, ignored=True):
            kind, above, below = plots.caption(image)
            yield pictures.setdefault((image.image_path, image.camera_id), len(pictures))
            yield marks.setdefault((kind, above), len(marks))
            yield below.rpartition(" ")[2]

    valid = ranking.per_query["valid"].tolist()
    return {
        "key": method.key, "title": explorer.title(method),
        "ap": [round(float(ranking.ap[query]), 4) if valid[query] else None for query in chosen],
        "told": [ranklists.told(ranking, query, ignored=True) for query in chosen],
        "lists": [list(shown(query)) for query in chosen],
    }  # fmt: skip


def choose(ours: np.ndarray, theirs: np.ndarray) -> list[int]:
    """Numbers of the queries that the page holds, by the AP of two methods, (Q,) each: all, or of more than ALL a
    hundred each of the worst and best of `ours`, of the largest gains and losses against `theirs`, and by lot."""
    if len(ours) <= ALL:
        return list(range(len(ours)))
    orders = (np.argsort(values, kind="stable") for values in (ours, -ours, ours - theirs, theirs - ours))
    parts = [order[:HUNDRED] for order in orders]
    parts.append(np.random.default_rng(0).choice(len(ours), HUNDRED, replace=False))
    return sorted({int(number) for part in parts for number in part})


def _sheets(paths: list[str]) -> Iterable[str]:
    """The pictures in sheets, COLUMNS in a line, each sheet a WebP as a data URI."""
    quality = QUALITY if len(paths) <= FEW else COARSE
    for start in range(0, len(paths), SHEET):
        part = paths[start : start + SHEET]
        sheet = np.zeros((-(-len(part) // COLUMNS), HIGH, COLUMNS, WIDE, 3), np.uint8)
        for place, path in enumerate(part):
            sheet[place // COLUMNS, :, place % COLUMNS] = images.decode(path, HIGH, WIDE)
        written = io.BytesIO()
        Image.fromarray(sheet.reshape(-1, COLUMNS * WIDE, 3)).save(written, "WEBP", quality=quality)
        yield f"data:image/webp;base64,{base64.b64encode(written.getvalue()).decode('ascii')}"
