"""Everything that only a GPU can show, in one command of about 25 minutes: `make gpu-check`.

    python benchmarks/gpu/check.py [--stages card tests training retrieval precision profile] [--minutes 25]

Stages, each printed as a table as soon as it is done and written to results/gpu/check-<stage>.csv:

card       names and versions, and the rates that bound the rest: large products, a copy
tests      the tests marked gpu
training   Table 4's trainings: steady seconds an iteration at batch 16, 224x224, projected, beside public rates
retrieval  re-ranking at Market-1501's size and with 500,000 distractors, beside the product of all pairs
precision  profile smoke's recipe on CUHK03 labeled in fp32 and bf16: do the intervals cover the difference?
profile    profile gpu to its report with one seed, without the trainings of 10_sensitivity and the slow literature rows

A stage that fails says so in its place and the next one runs; the exit status is then 1. `--seconds` is how long each
contender of `training` is counted for. Without a GPU nothing is measured (`--device cpu` tries the script itself).
"""

import argparse
import os
import re
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY / folder) for folder in ("", "benchmarks/training", "benchmarks/retrieval")]

import compare  # noqa: E402
import flops  # noqa: E402

from reid_core import features, machine, matching, training  # noqa: E402
from reid_core.evaluation import evaluate  # noqa: E402
from reproduction import experiment, intervals, speed  # noqa: E402
from reproduction.embedded import pretraining  # noqa: E402
from reproduction.runner import profiles  # noqa: E402

RESULTS = REPOSITORY / "results" / "gpu"
PAPER = training.Recipe(backbone="resnet50", weights="imagenet", batchnorm="frozen", dropout=0.5, height=224, width=224,
                        batch_size=16, iterations=1_000_000)  # fmt: skip
PUBLIC = {  # images a second of training ResNet-50 at 224x224
    "MLPerf 3.0, one GPU of a DGX H100, batch about 400": 7010,
    "PyTorch's NGC container, one H100 SXM, fp16": 2790,
}
# What profile gpu leaves out here: everything that is as long as the paper's trainings themselves.
SHORT = ("seeds=[0]", "literature=[Colour histogram]", "sensitivity_variants=[]", "sensitivity_controls={}",
         "sensitivity_pairings=1", "sensitivity_seeds=[0]")  # fmt: skip


def card(args) -> pd.DataFrame:
    device = torch.device(args.device)
    lines = {"device": machine.device_name(device), "torch": torch.__version__, "cores": machine.cores()}
    if device.type == "cuda":
        query = ["nvidia-smi", "--query-gpu=driver_version,memory.total", "--format=csv,noheader"]
        lines["driver, memory"] = subprocess.run(query, capture_output=True, text=True).stdout.strip()
        lines["compute capability"] = ".".join(map(str, torch.cuda.get_device_capability(device)))
        lines["copy, TB/s"] = copy_rate(device) / 1e12
    for precision in ("fp32", "bf16"):
        name = speed.arithmetic(precision, device)
        lines[f"product, {name}, TFLOP/s"] = speed.matrix_rate(precision, device) / 1e12
    return pd.DataFrame({"what": lines.keys(), "measured": lines.values()})


def copy_rate(device: torch.device) -> float:
    """Bytes a second, read and written, of copying 4 GiB within the device's memory: the fastest of five."""
    source = torch.empty(2**30, dtype=torch.float32, device=device).normal_()
    target, fastest = torch.empty_like(source), float("inf")
    for _ in range(5):
        torch.cuda.synchronize()
        begun = time.perf_counter()
        target.copy_(source)
        torch.cuda.synchronize()
        fastest = min(fastest, time.perf_counter() - begun)
    return 2 * source.nbytes / fastest


def tests(args) -> pd.DataFrame:
    report = RESULTS / "check" / "tests.xml"
    # By their files, so that nothing is needed that only other tests load, such as JupyterLab.
    marked = [
        str(path) for path in sorted((REPOSITORY / "tests").rglob("test_*.py")) if ".mark.gpu" in path.read_text()
    ]
    run(sys.executable, "-m", "pytest", "-q", "-m", "gpu", *marked, f"--junitxml={report}", check=False)
    suite = ElementTree.parse(report).getroot().find("testsuite")
    counts = {name: int(suite.get(name)) for name in ("tests", "failures", "errors", "skipped")}
    if counts["failures"] or counts["errors"] or not counts["tests"]:
        raise RuntimeError(f"the tests marked gpu: {counts}")
    return pd.DataFrame([counts | {"seconds": float(suite.get("time"))}])


def training_speed(args) -> pd.DataFrame:
    """Steady seconds an iteration of each model and form, and all of Table 4's trainings projected from them."""
    device, lines = torch.device(args.device), []
    capture = device.type == "cuda"
    recipes = {"fp32": PAPER, "bf16": replace(PAPER, precision="bf16"),
               "bf16, CUDA graph": replace(PAPER, precision="bf16", cuda_graph=capture)}  # fmt: skip
    for name, recipe in recipes.items():
        seconds = args.seconds if recipe is recipes["bf16, CUDA graph"] else args.seconds / 4
        found = speed.measure(recipe, flops.PEOPLE["combined"], seconds=seconds, device=device)
        peak = speed.matrix_rate(recipe.precision, device)
        for line in found.itertuples():
            operations = flops.step_flops(line.model, flops.PEOPLE["combined"], heads=line.form)
            lines.append({
                "recipe": name, "model": line.model, "form": line.form,
                "ms_per_iteration": 1e3 * line.seconds_per_iteration, "over_baseline": line.over_baseline,
                "images_per_second": recipe.batch_size / line.seconds_per_iteration,
                "tflops": operations / line.seconds_per_iteration / 1e12,
                "share_of_product": operations / line.seconds_per_iteration / peak, "counted_seconds": seconds,
            })  # fmt: skip
    for name in recipes:
        each = {(line["model"], line["form"]): line["ms_per_iteration"] for line in lines if line["recipe"] == name}
        for form in ("pooled", "plain"):
            hours = sum(flops.ITERATIONS[data] * each[model, form if model == "hcn" else "pooled"]
                        for model, data in flops.TABLE_4) / 3.6e6  # fmt: skip
            lines.append(
                {"recipe": name, "model": "all seven of Table 4, projected", "form": form, "minutes": 60 * hours}
            )
    images = PAPER.batch_size * sum(flops.ITERATIONS[data] for _, data in flops.TABLE_4)
    for name, rate in PUBLIC.items():
        lines.append(
            {"recipe": name, "model": "as many images", "images_per_second": rate, "minutes": images / rate / 60}
        )
    return pd.DataFrame(lines)


def retrieval(args) -> pd.DataFrame:
    """Re-ranking from features to its result; at 523,100 images streamed into the evaluation, as it must be."""
    sizes = {"market1501": ("product", "neighbours_ours", "rerank_ours"),
             "market1501 + 500k": ("product", "rerank_and_score_stream")}  # fmt: skip
    shapes = {"market1501": compare.SIZES["market1501"][:2], "market1501 + 500k": (3368, 519_732)}
    if args.device == "cpu":
        sizes, shapes = {"tiny": sizes["market1501"]}, {"tiny": compare.SIZES["tiny"][:2]}
    lines = []
    for size, tasks in sizes.items():
        n, floor = sum(shapes[size]), None
        for task in tasks:
            report = compare.measure(task, *shapes[size], device=args.device)
            if "seconds" not in report:
                raise RuntimeError(f"{task} at {size}: {report['note']}")
            floor = floor or report["seconds"]
            keep = {key: report.get(key) for key in ("device", "seconds", "peak_gib", "device_gib")}
            lines.append({"size": size, "images": n, "task": task, **keep, "of_the_product": report["seconds"] / floor,
                          "product_tflops": 2 * n * n * compare.DIMENSIONS / floor / 1e12})  # fmt: skip
    return pd.DataFrame(lines)


def precision(args) -> pd.DataFrame:
    """Scores of profile smoke's recipe in fp32 and bf16, their difference with its interval, for both models."""
    settings = profiles.load("smoke")
    run(*command("notebook", "01_datasets", "--profile", "smoke"))
    name, lines = "cuhk03_labeled", []
    kit = experiment.Experiment.of(settings)
    images, labelled = kit.images(name), kit.training_table(name)
    for model in experiment.MODELS:
        found = {}
        for precision in ("fp32", "bf16"):
            scores, people = [], []
            for seed in settings["seeds"]:
                recipe = settings["recipe"] | settings["schedules"][name] | {"seed": seed, "precision": precision}
                folder = RESULTS / "check" / f"{model}-{precision}-seed{seed}"
                training.train(model, labelled, folder, recipe=pretraining.recipe(recipe), data_root=kit.data,
                               device=args.device, progress=False, other_recipe="set_aside")  # fmt: skip
                extracted = features.extract(folder, images, data_root=kit.data, device=args.device, progress=False)
                matched = matching.match(extracted, "xqda", True, matching.Matching())
                result = evaluate(matched.distance, matched.query, matched.gallery)
                scores.append((result.rank1, result.mAP))
                people.append(intervals.by_person(result.per_query, matched.query["person_id"].to_numpy(), seed))
            found[precision] = pd.concat(people)
            lines.append({"model": model, "precision": precision} | mean(scores) | {"set": name, "seeds": len(scores)})
        for score in intervals.SCORES:
            change = intervals.interval(found["bf16"], score, found["fp32"])
            lines.append({"model": model, "precision": "bf16 - fp32", "score": score, "difference": change.value,
                          "low": change.low, "high": change.high, "set": name, "people": change.people,
                          "seeds": change.seeds, "covered": change.low <= 0 <= change.high})  # fmt: skip
    return pd.DataFrame(lines)


def mean(scores: list[tuple[float, float]]) -> dict[str, object]:
    rank1, mean_ap = zip(*scores, strict=True)
    return {"rank1": 100 * sum(rank1) / len(rank1), "mAP": 100 * sum(mean_ap) / len(mean_ap),
            "rank1 of each seed": " ".join(f"{100 * x:.1f}" for x in rank1)}  # fmt: skip


def profile(args) -> pd.DataFrame:
    """Minutes of each step of profile gpu, as its log has them."""
    name, given = ("gpu", SHORT) if args.device == "cuda" else ("tiny", ())
    overrides = [word for override in given for word in ("-p", override)]
    log = REPOSITORY / "results" / name / "workflow.log"
    begun, said = time.perf_counter(), log.read_text() if log.is_file() else ""
    try:
        run(*command("reproduce", "--profile", name, *overrides), timeout=args.until - time.monotonic())
    except subprocess.TimeoutExpired:
        print(f"The time is up: profile {name} did not come to its end; the same command continues.", flush=True)
    done = re.findall(r"^\S+ \S+ \[(\d+/\d+)\] (.*): (?:(\d+) h ?)?(?:(\d+) min ?)?(?:([\d.]+) s)?$",
                      log.read_text()[len(said):], re.MULTILINE)  # fmt: skip
    lines = [{"step": step, "what": what, "seconds": 3600 * float(h or 0) + 60 * float(m or 0) + float(s or 0)}
             for step, what, h, m, s in done]  # fmt: skip
    return pd.DataFrame([*lines, {"what": "all", "seconds": time.perf_counter() - begun}])


def command(*words: str) -> tuple[str, ...]:
    return sys.executable, "-m", "reproduction.cli", *words


def run(*words: str, check: bool = True, timeout: float | None = None) -> None:
    """A command in the repository; its words on the terminal. Out of time, it is stopped as by Ctrl-C."""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")]))
    }
    process = subprocess.Popen(words, cwd=REPOSITORY, env=environment)
    try:
        status = process.wait(timeout)
    except subprocess.TimeoutExpired:
        process.terminate()
        process.wait()
        raise
    if check and status:
        raise RuntimeError(f"{' '.join(words[2:5])} ended with status {status}; what it said is above")


STAGES: dict[str, Callable] = {"card": card, "tests": tests, "training": training_speed, "retrieval": retrieval,
                               "precision": precision, "profile": profile}  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--minutes", type=float, default=25.0, help="when the last stage is stopped (default: 25)")
    parser.add_argument("--seconds", type=float, default=60.0, help="to count each training for (default: 60)")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    args = parser.parse_args()
    if args.device == "cpu":
        print("On a CPU: this tries the script, and says nothing of a GPU.", flush=True)
    args.until = time.monotonic() + 60 * args.minutes
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("torch sees no GPU here; nothing was measured.")
    RESULTS.mkdir(parents=True, exist_ok=True)
    failed = []
    for name in args.stages:
        begun = time.perf_counter()
        try:
            table = STAGES[name](args)
        except (RuntimeError, ValueError, OSError) as error:
            failed.append(name)
            print(f"\n== {name}: FAILED: {error}", flush=True)
            continue
        table.to_csv(RESULTS / f"check-{name}.csv", index=False)
        text = table.to_string(index=False, float_format="{:.4g}".format, na_rep="")
        print(f"\n== {name} ({time.perf_counter() - begun:.0f} s)\n{text}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
