"""What each strength of the renderer does alone to LOMO+XQDA, to the colour histogram and to the network.

    python benchmarks/strengths/alone.py [none colour light boxes drawn clutter all] [--csv FILE]

CUHK03 is rendered at profile smoke's size once for each: no strength, one alone at its default, all of them. The same
people walk in the same poses before the same cameras each time. The network is profile smoke's baseline (the packaged
backbone, 40 iterations, seed 0). What is given is measured anew and kept in FILE, then everything in FILE is printed:
rank-1 and mAP with 95% intervals over test people, and rank-1 less that without any strength, of the same people.
"""

import argparse
import dataclasses
import os
import tempfile
import time
from pathlib import Path

import pandas as pd

from reid_core import training
from reid_core.matching import Matching, split
from reproduction import intervals, literature, scoring
from reproduction.embedded import CUHK01Sizes, Market1501Sizes, Sizes, Strengths, pretraining, render
from reproduction.embedded.strengths import FULL, NONE
from reproduction.experiment import Experiment
from reproduction.runner import profiles
from reproduction.sidecar import REPOSITORY

SETS = ("cuhk03_labeled", "cuhk03_detected")
HAND_CRAFTED = ("LOMO+XQDA", "Colour histogram")
SIZES = dataclasses.replace(Sizes.smoke(), market1501=Market1501Sizes(2, 8, 2, 4, 8, 0, 0), cuhk01=CUHK01Sizes(2))
VARIANTS = {
    "none": NONE,
    **{one.name: dataclasses.replace(NONE, **{one.name: one.default}) for one in dataclasses.fields(Strengths)},
    "all": FULL,
}


def measured(strengths: Strengths, folder: Path) -> pd.DataFrame:
    """Every method on both sets at these strengths, rendered into `folder`: each test person's sums."""
    render(folder / "data", SIZES, 0, strengths=strengths)
    kit, how = Experiment("strengths", folder / "data", folder / "results"), Matching()
    lines = []
    for name in SETS:
        images = kit.images(name)
        task = literature.Task(kit, name, split(images), how)
        for method in HAND_CRAFTED:
            matched = scoring.Matched(literature.METHODS[method].run(task).distance, *task.images[1:], 0.0)
            lines.append({"set": name, "method": method} | scoring.evaluate(matched, how.ap))
        trained = scoring.score(network(kit, name, images), how, reranked=(False,))
        lines += trained.assign(set=name, method="network, " + trained["metric"]).to_dict("records")
    return scoring.by_person(pd.DataFrame(lines), ("set", "method"))


def network(kit: Experiment, name: str, images: pd.DataFrame):
    """Features of a set under profile smoke's baseline, fine-tuned on it."""
    settings = profiles.load("smoke")
    recipe = pretraining.recipe(settings["recipe"] | settings["schedules"][name] | {"seed": 0})
    run = kit.run("baseline", name, 0)
    training.train("baseline", kit.training_table(name), run.folder, recipe=recipe, data_root=kit.data)
    return scoring.extract(kit, run.folder, images, name)


def told(people: pd.DataFrame) -> str:
    """A Markdown table a set: a line each variant, a column each method."""
    lines = []
    for name in SETS:
        of_set = people[people["set"] == name]
        methods = list(dict.fromkeys(of_set["method"]))
        lines += [f"{name}:", "", f"| strength | {' | '.join(methods)} |", "|---" * (len(methods) + 1) + "|"]
        for variant in (variant for variant in VARIANTS if (of_set["variant"] == variant).any()):
            cells = (_cell(of_set[of_set["method"] == method], variant) for method in methods)
            lines.append(f"| {variant} | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def _cell(rows: pd.DataFrame, variant: str) -> str:
    """Rank-1 with its interval and mAP; what has changed in rank-1 since there was no strength, with its interval."""
    of = {name: rows[rows["variant"] == name] for name in ("none", variant)}
    rank1, mAP = (intervals.interval(of[variant], score) for score in intervals.SCORES)
    cell = f"{rank1.value:.1f} ({rank1.low:.1f} to {rank1.high:.1f}) / {mAP.value:.1f}"
    if variant == "none" or of["none"].empty:
        return cell
    change = intervals.interval(of[variant], "rank1", of["none"])
    return f"{cell}; {change.value:+.1f} ({change.low:+.1f} to {change.high:+.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    known = f"{', '.join(VARIANTS)}; without any, all of them"
    parser.add_argument("variants", nargs="*", metavar="STRENGTH", help=known)
    parser.add_argument("--csv", type=Path, default=REPOSITORY / "results" / "benchmarks" / "strengths.csv")
    given = parser.parse_args()
    if unknown := [name for name in given.variants if name not in VARIANTS]:
        parser.error(f"{unknown[0]!r} is no strength; there are {known}")
    kept = [pd.read_csv(given.csv)] if given.csv.is_file() else []
    for variant in given.variants or VARIANTS:
        begun = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            os.environ["REID_CORE_CACHE"] = f"{folder}/cache"
            found = measured(VARIANTS[variant], Path(folder)).assign(variant=variant)
        kept = [table[table["variant"] != variant] for table in kept] + [found]
        given.csv.parent.mkdir(parents=True, exist_ok=True)
        pd.concat(kept, ignore_index=True).to_csv(given.csv, index=False)
        print(f"{variant}: {time.perf_counter() - begun:.0f} s", flush=True)
    print(told(pd.concat(kept, ignore_index=True)))


if __name__ == "__main__":
    main()
