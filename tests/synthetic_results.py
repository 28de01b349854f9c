"""A results folder as the notebooks leave it, from synthetic scores and losses: for the tests of what reads one."""

import json
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
from PIL import Image

from reproduction import claims, convergence, experiment, paper, plots, scoring, sensitivity, tables

PARTS = (("train", 1, 1), ("query", 2, 1), ("gallery", 2, 2))
SETTINGS = {"backbone": "resnet18", "iterations": 150}


def make(folder: Path, data_source: str = "embedded", profile: str = "smoke", seeds: tuple[int, ...] = (0,)) -> Path:
    """Write every file of a finished profile to `folder` with the kit's own functions; return the folder."""
    facts = {"data_source": data_source, "profile": profile, "ap": "trapezoid"}
    draw = np.random.default_rng(3)
    folder.mkdir(parents=True)
    _datasets(folder, facts)
    runs = _runs(folder, draw, seeds, facts)
    for number, sets in ((2, paper.SETS[:2]), (3, paper.SETS[2:])):
        scores = scores_of(draw, sets, seeds)
        saved = facts | {"seeds": list(seeds), "matching": {"k1": 20, "k2": 6, "lambda_value": 0.3}}
        every_score = scores.drop(columns="people").assign(**facts)
        tables.save(every_score, folder / f"table{number}_seeds.csv", **saved)
        tables.save(scoring.by_person(scores), folder / f"table{number}_people.csv", **saved)
        table = tables.compare(paper.rows(number), sets, scores, facts)
        tables.save(table, folder / f"table{number}.csv", **saved)
        plots.save(plots.scores(table, scores), folder / f"table{number}", **saved)
    table = tables.table4(runs, facts)
    speeds = pd.DataFrame({
        "model": ["baseline", "hcn", "hcn"], "form": ["pooled", "pooled", "plain"], "precision": "fp32",
        "seconds_per_iteration": [0.1, 0.1, 0.12], "fastest_turn": 0.1, "slowest_turn": 0.2,
        "over_baseline": [1, 1, 1.2], "iterations": 9, "device": "a device",
    })  # fmt: skip
    tables.save(table, folder / "table4.csv", **facts)
    plots.save(plots.times(table, runs), folder / "table4", **facts)
    tables.save(tables.table4_forms(table, speeds, facts), folder / "table4_forms.csv", **facts)
    _figures(folder, draw, seeds, facts)
    cross = pd.DataFrame([
        {"train_set": source, "test_set": name, "seed": seed, "rank1": 100 * draw.random(), "mAP": 100 * draw.random()}
        for seed in seeds for name in paper.SETS for source in ("untrained", *paper.SETS, paper.COMBINED)
        if name == source or name[:6] != source[:6]
    ])  # fmt: skip
    cross["people"] = people_of(draw, cross[["rank1", "mAP"]] / 100)
    people = scoring.by_person(cross, ("train_set", "test_set", "seed"))
    tables.save(people, folder / "cross_dataset_people.csv", model="hcn", **facts)
    tables.save(cross.drop(columns="people").assign(**facts), folder / "cross_dataset.csv", **facts)
    _sensitivity(folder, draw, seeds, facts)
    verdicts = claims.judge(folder, data_source).assign(**facts, seeds=" ".join(map(str, seeds)))
    tables.save(verdicts, folder / "claims.csv", **facts)
    _notebooks(folder, facts, seeds)
    return folder


def scores_of(draw: np.random.Generator, sets: tuple[str, ...], seeds: tuple[int, ...]) -> pd.DataFrame:
    scores = pd.DataFrame([
        {"model": model, "set": name, "metric": metric, "reranked": reranked, "method": None, "seed": seed,
         "rank1": 0.3 + 0.1 * draw.random(), "mAP": 0.3 + 0.1 * draw.random(), "queries": 132,
         "queries_without_match": 0, "seconds_features": 3.0, "seconds_train": 40.0, "seconds_match": 0.5,
         "run": experiment.run_name(model, name, seed)}
        for model in ("baseline", "hcn", "combined") for name in sets for metric in ("euclidean", "xqda")
        for reranked in (False, True) for seed in seeds
    ])  # fmt: skip
    return scores.assign(people=people_of(draw, scores[["rank1", "mAP"]]))


def people_of(draw: np.random.Generator, scores: pd.DataFrame, people: int = 66) -> list[pd.DataFrame]:
    """Per line of `scores`, (rank-1, mAP) in fractions, sums of people with two queries each that have exactly these
    scores; `draw` is left as it was."""
    (noise,) = draw.spawn(1)
    each = noise.normal(0, 0.2, (len(scores), people, 2))
    sums = 2 * (scores.to_numpy()[:, None] + each - each.mean(axis=1, keepdims=True))
    ids = np.arange(1, people + 1)
    return [pd.DataFrame({"seed": 0, "person_id": ids, "queries": 2, "rank1": one[:, 0], "mAP": one[:, 1]})
            for one in sums]  # fmt: skip


def _datasets(folder: Path, facts: dict) -> None:
    train, query, gallery = ({"dataset": "market1501", "subset": subset, "person_id": person, "camera_id": camera,
                              "image_path": f"/{subset}/{person}_{camera}.jpg"}
                             for subset, person, camera in PARTS)  # fmt: skip
    images = {paper.MARKET1501: pd.DataFrame([train, query, gallery])}
    identities, subsets = (made(images).assign(**facts) for made in (tables.table1, tables.table1_subsets))
    tables.save(identities, folder / "table1.csv", **facts)
    plots.save(plots.counts(identities, subsets), folder / "table1", **facts)
    tables.save(subsets, folder / "table1_subsets.csv", **facts)


def _runs(folder: Path, draw: np.random.Generator, seeds: tuple[int, ...], facts: dict) -> pd.DataFrame:
    lines = []
    root = folder.parent / f"{facts['data_source']} data"
    if facts["data_source"] == "embedded":
        root.mkdir(exist_ok=True)
        (root / "embedded.json").write_text("{}")
    kit = experiment.Experiment(facts["profile"], root, folder)
    for model, train_set in experiment.trainings():
        for seed in seeds:
            name = experiment.run_name(model, train_set, seed)
            seconds = 30 + 10 * draw.random()
            record = {"model": model, "num_classes": 60, "images": 650, "data_digest": "93d0" * 16, "finished": True,
                      "data_source": facts["data_source"],
                      "recipe": SETTINGS, "form": "pooled", "seed": seed, "seconds": seconds, "device": "two cores",
                      "commit": None, "versions": {"python": "3.11.7"}, "weights_digest": "c744" * 16}  # fmt: skip
            (folder / "runs" / name).mkdir(parents=True)
            (folder / "runs" / name / "run.json").write_text(json.dumps(record))
            lines.append(kit.run(model, train_set, seed).check().line)
    return pd.DataFrame(lines)


def _figures(folder: Path, draw: np.random.Generator, seeds: tuple[int, ...], facts: dict) -> None:
    steps = np.arange(1, 151)
    losses = {name: {model: [pd.DataFrame({
        "iteration": steps, "seconds": steps * 0.2, "seed": seed, "classes": 60,
        "loss_r5": 4 * np.exp(-steps / (60 if model == "hcn" else 90)) + 0.3 * draw.random(150),
    }) for seed in seeds] for model in experiment.MODELS} for name in paper.SETS}  # fmt: skip
    tables.save(convergence.measure(losses, 15).assign(**facts), folder / "convergence.csv", **facts)
    tables.save(convergence.levels(losses, 15).assign(**facts), folder / "loss_levels.csv", **facts)
    plots.save(plots.loss_curves(losses, 15), folder / "figure3", **facts)
    plots.save(plots.loss_curves(losses, 15, against="seconds"), folder / "figure3_time", **facts)
    example = pd.DataFrame([{"list": title, "paper_ap": ap, "ap_step": ap, "ap_trapezoid": 0.79, "cmc": 1}
                            for title, _, ap in paper.FIGURE4])  # fmt: skip
    tables.save(example, folder / "figure4.csv", **facts)
    values = {"step": 1.0, "trapezoid": 1.0, "cmc": 1.0}
    figure = plots.average_precision_lists([(title, hits, values) for title, hits, _ in paper.FIGURE4])
    plots.save(figure, folder / "figure4", **facts)
    people = experiment.shows_people(folder, facts)
    people.mkdir(parents=True, exist_ok=True)
    for stem, colour in (("figure5", "teal"), ("people", "olive")):
        Image.new("RGB", (660, 420), colour).save(people / f"{stem}.png")


def _sensitivity(folder: Path, draw: np.random.Generator, seeds: tuple[int, ...], facts: dict) -> None:
    spread, name = 1.2 if len(seeds) > 1 else np.nan, paper.CUHK03_LABELED
    lines = []
    for kind, variant, choice in (("seed", "seed", "Seed of the training"), ("matching", "k1", "k1"),
                                  ("training", "adjacent", "Merged levels"), ("training", "conv1", "conv1"),
                                  ("training", "relu", "ReLU after merging"),
                                  ("control", "heads_alone", "Merged levels (HCN)")):  # fmt: skip
        line = {
            "kind": kind, "variant": variant, "choice": choice, "default": "one", "other": "two", "set": name,
            "model": "hcn", "metric": "xqda", "reranked": True, "matching": "XQDA, re-ranked", "status": "measured",
            "default_loss": 0.4, "other_loss": 0.5, "seeds": "0", "other_seeds": "0",
            "iterations": 150, "queries": 132, "runs": experiment.run_name("hcn", name, 0),
        }  # fmt: skip
        for score in tables.SCORES:
            gap = draw.normal()
            line |= {f"default_{score}": 40.0, f"other_{score}": 40 + gap, f"{score}_difference": gap,
                     f"{score}_low": gap - 0.2, f"{score}_high": gap + 0.2, f"{score}_spread": spread}  # fmt: skip
        if kind == "seed":
            line |= {f"{score}_{end}": np.nan for score in tables.SCORES for end in ("low", "high")}
        if kind in ("training", "control"):
            line["people"] = _sides(draw, line)
        lines.append(line | ({"status": "not run: not chosen"} if variant == "relu" else {}))
    table = sensitivity.table(lines, facts)
    tables.save(table, folder / "sensitivity.csv", **facts)
    tables.save(sensitivity.people(lines), folder / "sensitivity_people.csv", **facts)
    plots.save(sensitivity.draw(table), folder / "sensitivity", **facts)


def _sides(draw: np.random.Generator, line: dict) -> pd.DataFrame:
    """The people behind both sides of a comparison: seed 0 of the default, and of the variant."""
    scores = pd.DataFrame([[line[f"{side}_{score}"] / 100 for score in tables.SCORES] for side in ("default", "other")])
    runs = (line["runs"], f"sensitivity/{line['variant']}-{line['set']}-seed0")
    sides = zip(people_of(draw, scores), ("default", "other"), runs, strict=True)
    return pd.concat([rows.assign(side=side, run=run) for rows, side, run in sides])


def _notebooks(folder: Path, facts: dict, seeds: tuple[int, ...]) -> None:
    copies = experiment.shows_people(folder, facts) / "notebooks"
    copies.mkdir(parents=True)
    given = {"profile": facts["profile"], "data_root": "data/embedded/smoke", "results_root": f"results/{folder.name}"}
    names = {name: given for name in (
        "01_datasets", "03_table2_cuhk03", "04_table3_market1501", "05_table4_training_time", "06_figure3_loss_curves",
        "07_figure4_ap_and_cmc", "08_figure5_rank_lists", "09_claims", "10_sensitivity")}  # fmt: skip
    for model, train_set in experiment.trainings():
        for seed in seeds:
            trained = {"model": model, "train_set": train_set, "seed": seed}
            names[f"02_train-{experiment.run_name(model, train_set, seed)}"] = given | trained
    for name, parameters in names.items():
        book = nbformat.v4.new_notebook(metadata={"papermill": {"parameters": parameters, "duration": 12.5}})
        nbformat.write(book, copies / f"{name}.ipynb")
