"""Everything that only a GPU can show, in one command of about 25 minutes: `make gpu-check`.

    python benchmarks/gpu/check.py [--stages card training retrieval tests profile precision] [--minutes 25]

Stages, each printed as a table as soon as it has ended and written to results/gpu/check-<stage>.csv:

card       names and versions, and the rates that bound the rest: large products, a copy
training   Table 4's trainings: steady seconds an iteration at batch 16, 224x224, projected, beside public rates
retrieval  re-ranking at Market-1501's size and with 500,000 distractors, beside the product of all pairs
tests      the tests marked gpu
profile    profile gpu to its report with one seed, without the trainings of 10_sensitivity and the slow literature rows
precision  profile smoke's recipe on CUHK03 labeled in fp32 and bf16: do the intervals cover the difference?

What fails, or finds too little of --minutes left, says so in its place (`note`), and the next one runs. Ctrl-C or
SIGTERM stops what is at work; what was measured by then is printed and written. The exit status is 0 where all was
done, else 1, or 128 and the signal's number. On eight cores or more the pictures of profile gpu are rendered beside the
stages before it, at the lowest priority. Without a GPU nothing is measured; `--device cpu` tries the script itself.
"""

import argparse
import contextlib
import os
import re
import signal
import subprocess
import sys
import time
import traceback
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pandas as pd
import psutil
import torch

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY / folder) for folder in ("", "benchmarks/training", "benchmarks/retrieval")]

import compare  # noqa: E402
import flops  # noqa: E402

from reid_core import features, files, machine, matching, training  # noqa: E402
from reid_core.evaluation import evaluate  # noqa: E402
from reproduction import experiment, intervals, speed  # noqa: E402
from reproduction.embedded import pretraining  # noqa: E402
from reproduction.runner import profiles, stopping  # noqa: E402

LEAST = 30  # seconds without which nothing is begun
RESERVE = 60  # seconds before the end when profile gpu is stopped, so that its table is still made
GRACE = 90  # seconds to end in good order for what is stopped
PAPER = training.Recipe(backbone="resnet50", weights="imagenet", batchnorm="frozen", dropout=0.5, height=224, width=224,
                        batch_size=16, iterations=1_000_000)  # fmt: skip
PUBLIC = {"MLPerf 3.0, one GPU of a DGX H100, batch about 400": 7010,  # images/s of training ResNet-50 at 224x224
          "PyTorch's NGC container, one H100 SXM, fp16": 2790}  # fmt: skip
H100 = {"float32": 67e12, "tf32": 494.7e12}  # operations a second by the data sheet of the SXM card, without sparsity
COMMAND = (sys.executable, "-m", "reproduction.cli")
# What profile gpu leaves out here: everything that is as long as the paper's trainings themselves.
SHORT = ("seeds=[0]", "literature=[Colour histogram]", "sensitivity_variants=[]", "sensitivity_controls={}",
         "sensitivity_pairings=1", "sensitivity_seeds=[0]")  # fmt: skip
# The pictures that profile gpu asks for, on all cores but four: its steps find them.
RENDERING = """
import os
from reproduction import embedded, experiment
from reproduction.embedded import pretraining
from reproduction.runner import profiles
os.nice(19)
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[4 : pretraining.machine.cores()])
settings = profiles.load("gpu")
embedded.render(experiment.resolve(settings["data_root"]), embedded.Sizes.named(settings["render_sizes"]), replace=True)
pretraining.Data().table(pretraining.cache_root() / "pretraining" / f"v{embedded.VERSION}" / "data")
"""
# Lines of a workflow's log that tell of a step (reproduction/runner/workflow.py), and what one took (words.duration).
LINE = re.compile(r"(\S+ \S+) \[\d+/\d+\] (\S+?(?: \(.*?\))?)(?: \.\.\.|: (.*))")
TOOK, UNITS = re.compile(r"[\d.]+ s|\d+ min \d+ s|\d+ h \d+ min"), {"h": 3600, "min": 60, "s": 1}


def card(args) -> Iterator[dict]:
    device = torch.device(args.device)
    yield {"what": "cores", "measured": machine.cores()}
    if device.type == "cuda":
        query = "nvidia-smi --query-gpu=driver_version,memory.total --format=csv,noheader"
        yield {"what": "driver, memory", "measured": subprocess.getoutput(query)}
        yield {"what": "compute capability", "measured": torch.cuda.get_device_capability(device)}
        yield {"what": "copy, TB/s", "measured": copy_rate(device) / 1e12}
    for precision in ("fp32", "bf16"):
        what = f"product, {speed.arithmetic(precision, device)}, TFLOP/s"
        yield {"what": what, "measured": speed.matrix_rate(precision, device) / 1e12}


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


def training_speed(args) -> Iterator[dict]:
    """Steady seconds an iteration of each model and form, and all of Table 4's trainings projected from them."""
    graph = replace(PAPER, precision="bf16", cuda_graph=args.device == "cuda")
    recipes = {"bf16, CUDA graph": graph, "bf16": replace(PAPER, precision="bf16"), "fp32": PAPER}
    for name, recipe in recipes.items():
        seconds = args.seconds if recipe is graph else args.seconds / 4
        yield from guarded(of_recipe(args, recipe, seconds), recipe=name)
    torch.cuda.empty_cache()  # for the processes of the next stages
    images = PAPER.batch_size * sum(flops.ITERATIONS[data] for _, data in flops.TABLE_4)
    for name, rate in PUBLIC.items():
        yield {"recipe": name, "model": "as many images", "images_per_second": rate, "minutes": images / rate / 60}


def of_recipe(args, recipe: training.Recipe, seconds: float) -> Iterator[dict]:
    left(args, 3 * seconds + LEAST)
    device, people, each = torch.device(args.device), flops.PEOPLE["combined"], {}
    found = speed.measure(recipe, people, seconds=seconds, device=device)
    peak = speed.matrix_rate(recipe.precision, device)
    for line in found.itertuples():
        took = each[line.model, line.form] = line.seconds_per_iteration
        rate = flops.step_flops(line.model, people, heads=line.form) / took
        yield {"model": line.model, "form": line.form, "ms_per_iteration": 1e3 * took,
               "over_baseline": line.over_baseline, "images_per_second": recipe.batch_size / took,
               "tflops": rate / 1e12, "share_of_product": rate / peak, "counted_seconds": seconds}  # fmt: skip
    for form in ("pooled", "plain"):
        whole = sum(flops.ITERATIONS[data] * each[model, form if model == "hcn" else "pooled"]
                    for model, data in flops.TABLE_4)  # fmt: skip
        yield {"model": "all seven of Table 4, projected", "form": form, "minutes": whole / 60}


def retrieval(args) -> Iterator[dict]:
    """Re-ranking from features to its result; at 523,100 images streamed into the evaluation, as it must be."""
    tasks = ("product", "neighbours_ours", "rerank_ours")
    sizes = {"market1501": (compare.SIZES["market1501"][:2], tasks),
             "market1501 + 500k": ((3368, 519_732), ("product", "rerank_and_score_stream"))}  # fmt: skip
    if args.device == "cpu":
        sizes = {"tiny": (compare.SIZES["tiny"][:2], tasks)}
    for size, (shape, tasks) in sizes.items():
        known = {}
        for task in tasks:
            yield from guarded(of_task(args, task, shape, known), size=size, images=sum(shape), task=task)


def of_task(args, task: str, shape: tuple[int, int], known: dict) -> Iterator[dict]:
    """Beside its seconds those of the product of all pairs, where that was done, and of its operations on an H100."""
    report = compare.measure(task, *shape, device=args.device, timeout=left(args, LEAST))
    if "seconds" not in report:
        raise RuntimeError(report["note"])
    known[task], operations = report["seconds"], 2 * sum(shape) ** 2 * compare.DIMENSIONS
    yield {"seconds": report["seconds"], "peak_gib": report["peak_gib"], "device_gib": report.get("device_gib"),
           "of_the_product": report["seconds"] / known.get("product", float("nan")),
           "all_pairs_tflops": operations / report["seconds"] / 1e12,
           **{f"h100_{name}_seconds": operations / rate for name, rate in H100.items()}}  # fmt: skip


def tests(args) -> Iterator[dict]:
    report = args.runs / "tests.xml"
    report.unlink(missing_ok=True)
    # By their files, so that nothing is needed that only other tests load, such as JupyterLab.
    all_files = sorted((REPOSITORY / "tests").rglob("test_*.py"))
    marked = [str(path) for path in all_files if ".mark.gpu" in path.read_text(encoding="utf-8")]
    words = (sys.executable, "-m", "pytest", "-q", "-m", "gpu", *marked, f"--junitxml={report}")
    run(*words, timeout=left(args), good=(0, 1))  # 1: some failed
    suite = ElementTree.parse(report).getroot().find("testsuite")
    counts = {name: int(suite.get(name)) for name in ("tests", "failures", "errors", "skipped")}
    yield counts | {"seconds": float(suite.get("time"))}
    if counts["failures"] or counts["errors"] or not counts["tests"]:
        raise RuntimeError(f"the tests marked gpu: {counts}")


def profile(args) -> Iterator[dict]:
    """Every step of all runs in profile gpu's log: the seconds it last took."""
    name, given = ("gpu", SHORT) if args.device == "cuda" else ("tiny", ())
    words, begun = [word for override in given for word in ("-p", override)], time.perf_counter()
    try:
        if args.rendering:
            print("Waiting for the pictures that are rendered beside ...", flush=True)
            ended(args.rendering, left(args, RESERVE + LEAST) - RESERVE)  # 01_datasets says what is wrong with them
        run(*COMMAND, "reproduce", "--profile", name, *words, timeout=left(args, RESERVE + LEAST) - RESERVE)
    finally:  # also where it failed or was stopped
        yield from steps(REPOSITORY / "results" / name / "workflow.log")
        yield {"step": f"this run of profile {name}", "seconds": time.perf_counter() - begun}


def steps(log: Path) -> list[dict]:
    found: dict[str, dict] = {}
    text = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
    for when, step, said in (match.groups("") for match in map(LINE.fullmatch, text.splitlines()) if match):
        row = found.setdefault(step, {"step": step, "seconds": None})
        if TOOK.fullmatch(said):
            row["seconds"] = sum(float(number) * UNITS[unit] for number, unit in re.findall(r"(\S+) (\w+)", said))
        row |= {"state": "ended" if TOOK.fullmatch(said) else f"not ended{': ' if said else ''}{said}", "when": when}
    return list(found.values())


def precision(args) -> Iterator[dict]:
    """Scores of profile smoke's recipe in fp32 and bf16, their difference with its interval, for both models."""
    run(*COMMAND, "notebook", "01_datasets", "--profile", "smoke", timeout=left(args, 4 * LEAST))
    for model in experiment.MODELS:
        yield from guarded(of_model(args, model, profiles.load("smoke")), model=model)


def of_model(args, model: str, settings: dict, name: str = "cuhk03_labeled") -> Iterator[dict]:
    kit, found = experiment.Experiment.of(settings), {}
    images, labelled = kit.images(name), kit.training_table(name)
    for precision in ("fp32", "bf16"):
        scores, people = [], []
        for seed in settings["seeds"]:
            left(args, LEAST)
            recipe = settings["recipe"] | settings["schedules"][name] | {"seed": seed, "precision": precision}
            folder = args.runs / f"{model}-{precision}-seed{seed}"
            training.train(model, labelled, folder, recipe=pretraining.recipe(recipe), data_root=kit.data,
                           device=args.device, progress=False, other_recipe="set_aside")  # fmt: skip
            extracted = features.extract(folder, images, data_root=kit.data, device=args.device, progress=False)
            matched = matching.match(extracted, "xqda", True, matching.Matching())
            result = evaluate(matched.distance, matched.query, matched.gallery)
            scores.append({"rank1": 100 * result.rank1, "mAP": 100 * result.mAP})
            people.append(intervals.by_person(result.per_query, matched.query["person_id"].to_numpy(), seed))
        found[precision], table = pd.concat(people), pd.DataFrame(scores)
        yield {"precision": precision, **table.mean(), "set": name, "seeds": len(scores),
               "rank1 of each seed": " ".join(f"{rank1:.1f}" for rank1 in table["rank1"])}  # fmt: skip
    for score in intervals.SCORES:
        change = intervals.interval(found["bf16"], score, found["fp32"])
        yield {"precision": "bf16 - fp32", "score": score, "difference": change.value, "low": change.low,
               "high": change.high, "covered": change.low <= 0 <= change.high, "set": name, "people": change.people,
               "seeds": change.seeds}  # fmt: skip


def guarded(rows: Iterable[dict], **label) -> Iterator[dict]:
    """Rows as they come, each with the label; a failure ends these with a row that says why, and costs no others."""
    try:
        for row in rows:
            yield label | row
    except Exception as error:
        yield label | {"note": why(error)}


def why(error: Exception) -> str:
    """What failed, in a line; where it did, on the terminal. Raises the signal that Python made an error of."""
    if isinstance(error.__cause__, stopping.Stopped):
        raise error.__cause__
    if not isinstance(error, TimeoutError):
        traceback.print_exception(error)
    return f"{type(error).__name__}: {error}".partition("\n")[0]


def left(args, needed: float = 0) -> float:
    """Seconds until --minutes are over; TimeoutError where they are fewer than needed."""
    if (seconds := args.until - time.monotonic()) <= needed:
        raise TimeoutError(f"{max(0, seconds):.0f} s are left, {needed:.0f} are needed")
    return seconds


def started(*words: str, **more) -> subprocess.Popen:
    """A command in the repository, its words on the terminal unless `more` says otherwise."""
    paths = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")]))
    return subprocess.Popen(words, cwd=REPOSITORY, env=os.environ | {"PYTHONPATH": paths}, **more)


def run(*words: str, timeout: float, good: tuple[int, ...] = (0,)) -> None:
    if (status := ended(started(*words), timeout)) not in good:
        raise RuntimeError(f"{' '.join(words[1:5])} ended with status {status}; what it said is above")


def ended(process: subprocess.Popen, timeout: float) -> int:
    """The exit status of a process. It is stopped where the time is up, and where this process is."""
    try:
        return process.wait(timeout)
    except subprocess.TimeoutExpired:
        raise TimeoutError(f"stopped after {timeout:.0f} s, as the time was up; the same command continues") from None
    finally:
        stop(process)


def stop(process: subprocess.Popen) -> None:
    """Have a process end in good order; kill it where that takes too long, and what it started and left behind."""
    if process.poll() is not None:
        return
    own = psutil.Process(process.pid)
    begun = own.children(recursive=True)
    process.terminate()
    try:
        process.wait(GRACE)
    except subprocess.TimeoutExpired:
        begun += own.children(recursive=True)
        process.kill()
        process.wait()
    for each in begun:
        with contextlib.suppress(psutil.NoSuchProcess):
            each.kill()


STAGES: dict[str, Callable] = {"card": card, "training": training_speed, "retrieval": retrieval, "tests": tests,
                               "profile": profile, "precision": precision}  # fmt: skip


def stage(name: str, args) -> bool:
    """Run a stage; print and write what it measured, also where it fails or is stopped. Whether it did all."""
    rows, note, begun = [], "stopped", time.perf_counter()
    try:
        left(args, LEAST)
        for row in STAGES[name](args):
            rows.append(row)
        note = None
    except Exception as error:
        note = why(error)
    finally:
        print(f"\n== {name} ({time.perf_counter() - begun:.0f} s){f': NOT DONE: {note}' if note else ''}", flush=True)
        if rows:
            table = pd.DataFrame(rows + ([{"note": note}] if note else []))
            print(table.to_string(index=False, float_format="{:.4g}".format, na_rep=""), flush=True)
            files.write_text(args.results / f"check-{name}.csv", table.assign(**args.facts).to_csv(index=False))
    return not any([note, *(row.get("note") for row in rows)])


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--minutes", type=float, default=25.0, help="when the last stage is stopped (default: 25)")
    parser.add_argument("--seconds", type=float, default=60.0, help="to count each training for (default: 60)")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: into results/check-cpu/")
    args = parser.parse_args(arguments)
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("torch sees no GPU here; nothing was measured.")
    args.until, args.rendering = time.monotonic() + 60 * args.minutes, None
    args.results = REPOSITORY / "results" / ("gpu" if args.device == "cuda" else "check-cpu")
    commit = machine.commit() or {}
    args.facts = {"device": machine.device_name(args.device), "torch": machine.versions()["torch"],
                  "commit": commit.get("id"), "modified": commit.get("modified")}  # fmt: skip
    args.runs = args.results / "check" / re.sub(r"\W+", "-", args.facts["device"])
    try:
        with stopping.heeded(), contextlib.ExitStack() as beside:
            if args.device == "cuda" and "profile" in args.stages[1:] and machine.cores() >= 8:
                unseen = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True}
                args.rendering = started(sys.executable, "-c", RENDERING, **unseen)
                beside.callback(stop, args.rendering)
            undone = [name for name in args.stages if not stage(name, args)]
    except KeyboardInterrupt as stopped:  # of a training; SystemExit with the status where the signal was another
        print(f"\nStopped by {str(stopped) or 'SIGINT'}.", flush=True)
        return 128 + getattr(stopped, "number", signal.SIGINT)
    print(f"\nNot all was done: {', '.join(undone)}." if undone else "\nAll was done.", flush=True)
    return 1 if undone else 0


if __name__ == "__main__":
    sys.exit(main())
