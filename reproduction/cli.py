"""The command line, `reid-core`: the main job, its plan, single notebooks, the report, a number's origin, the data."""

import argparse
import importlib
import importlib.util
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from reid_core import __version__
from reproduction.runner import isolation

CALLED = {  # verbs that do nothing but call a function, with what is given by these names
    "notebook": ("runner.execution.notebook", "name profile overrides output"),
    "train": ("runner.further.train", "name profile overrides"),
    "report": ("runner.execution.write_report", "profile overrides"),
    "explain": ("explain.describe", "path row column"),
    "bundle": ("bundle.pack", "folder output features"),
}
REPOSITORY = Path(__file__).resolve().parent.parent  # the sidecar's, which on Windows cannot be imported


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status (1: an error that was explained, 128 + n: stopped by signal n)."""
    for name, how in isolation.SLEEPING.items():  # before PyTorch starts its threads
        os.environ.setdefault(name, how)
    chosen = _parser().parse_args(arguments)
    if lacking := _lacking():
        print(f"reid-core: {lacking}", file=sys.stderr)
        return 1
    from reproduction.runner.notebooks import NotebookError
    from reproduction.runner.stopping import Stopped, heeded
    from reproduction.runner.workflow import WorkflowError

    try:
        with heeded():
            chosen.run(chosen)
            sys.stdout.flush()
    except Stopped as stopped:
        print(f"\nStopped by {stopped}. The same command continues from here.", file=sys.stderr)
        return 128 + stopped.number
    except BrokenPipeError:  # the reader of a pipe has seen enough; nothing is left to be told, at the exit neither
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except (OSError, ValueError, TypeError, NotebookError, WorkflowError) as error:
        print(f"reid-core: {error}", file=sys.stderr)
        return 1
    return 0


def _lacking() -> str | None:
    """One sentence on what the reproduction lacks here, and the remedy; None where it has all."""
    if os.name == "nt":
        return "runs on Linux and macOS; on Windows use it inside WSL: `wsl --install`, then the same commands there."
    if not (REPOSITORY / "Snakefile").is_file():
        return (
            "what is installed here is the library, reid_core; the reproduction needs a clone of the repository:"
            " in its folder `make reproduce`, or `pip install -e '.[reproduction]'` and this command again."
        )
    needed = ("papermill", "snakemake", "yaml", "seaborn", "jinja2", "ipywidgets", "ipykernel")
    if absent := [name for name in needed if importlib.util.find_spec(name) is None]:
        return (
            f"{', '.join(absent)}: not installed in {sys.prefix}; the reproduction needs more than the library:"
            f" pip install -e '{REPOSITORY}[reproduction]', or use the environment that `make` makes."
        )
    return None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="reid-core", description=__doc__)
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = _verb(commands, "reproduce", _reproduce, "tables, figures and verdicts of a profile")
    command.add_argument("--force", nargs="+", default=[], metavar="NOTEBOOK", help="run these again")
    command.add_argument("--executor", help="of Snakemake's for a cluster, such as slurm: every step is a job there")
    command.add_argument("--jobs", type=int, default=100, metavar="N", help="at once on the cluster (default: 100)")
    command.add_argument("--gpus-per-training", type=int, default=1, choices=range(1, 65), metavar="N",
                         help="so many for each, by torchrun (default: 1)")  # fmt: skip
    command.add_argument("--from", dest="given", metavar="FILE", help="a bundle whose trainings are taken as done")
    command.add_argument("more", nargs="*", metavar="-- OPTION", help="Snakemake's own, after --")

    command = _verb(commands, "plan", _plan, "the runs of a profile, their time and disk, what is missing")
    command.add_argument("--measure", type=float, default=0.0, metavar="SECONDS",
                         help="train each model on noise for so long, to project the time")  # fmt: skip

    command = _verb(commands, "notebook", None, "run one notebook, strictly")
    command.add_argument("name", help="02_train, 02, or a path")
    command.add_argument("--output", help="the executed copy (default: in the results folder)")

    command = _verb(commands, "train", None, "make one training, or find it made; a step of a cluster")
    command.add_argument("name", help="its folder below runs/, such as sensitivity/relu-cuhk03_labeled-seed0")

    _verb(commands, "report", None, "write report.html from the results of a profile")

    what = "where a number came from, and the commands that make it again"
    command = _verb(commands, "explain", None, what, profile=False)
    command.add_argument("path", help="a table (CSV) or figure of a results folder")
    command.add_argument("--row", nargs="+", default=[], metavar="VALUE",
                         help="the row that has all of these, each a cell's VALUE or COLUMN=VALUE;"
                         " without it, the rows are listed")  # fmt: skip
    command.add_argument("--column", help="one cell of the row, with the paper's figure beside it")

    command = _verb(commands, "evaluate", _evaluate, "score features or distances that any tool wrote", profile=False)
    command.add_argument("files", nargs="*", metavar="FILE", help="all parts; several files are read as one")
    for part in ("query", "gallery", "train"):
        command.add_argument(f"--{part}", nargs="+", metavar="FILE", help=f"the {part} part, where it lies apart")
    command.add_argument("--metric", choices=("euclidean", "cosine", "xqda"), default="euclidean")
    command.add_argument("--rerank", action="store_true", help="by the k-reciprocal distance")
    command.add_argument("--ap", choices=("trapezoid", "step"), default="trapezoid", help="definition of AP")
    protocols = ("market", "no_cameras", "single_gallery_shot")
    command.add_argument("--protocol", choices=protocols, help="default: market, or no_cameras where there are none")
    command.add_argument("--images", choices=("rows", "columns"), help="where images are, if lengths do not say")
    for kind in ("distance", "similarity"):
        command.add_argument(f"--{kind}", dest="kind", action="store_const", const=kind, help=f"FILE holds a {kind}")
    command.add_argument("--json", action="store_true")

    _verbs_of_results(commands)
    _data_verbs(commands)
    return parser


def _verbs_of_results(commands) -> None:
    command = _verb(commands, "bundle", None, "results as one file, to send: an RO-Crate", profile=False)
    command.add_argument("folder", metavar="RESULTS", help="a results folder, such as results/smoke")
    command.add_argument("-o", "--output", required=True, metavar="FILE", help="the file to write, .zip")
    command.add_argument("--features", action="store_true", help="with the features of every image, too")

    what = "two sets of results, cell by cell (exit code 1: differ)"
    command = _verb(commands, "compare", _compare, what, profile=False)
    for side in ("first", "second"):
        command.add_argument(side, help="a results folder or a ZIP of one")
    command.add_argument("--all", action="store_true", help="list every cell, not those alone that differ")
    command.add_argument("--across", action="store_true", help="compare different profiles or data sources, too")

    command = _verb(commands, "export", _export, "a trained run as an ONNX file", profile=False)
    command.add_argument("folder", metavar="RUN", help="a run folder")
    command.add_argument("-o", "--output", required=True, metavar="FILE", help="the file to write, .onnx")


def _data_verbs(commands) -> None:
    data = commands.add_parser("data", help="the official data sets on this machine")
    actions = data.add_subparsers(required=True, metavar="ACTION")
    what = "which sets are found, in which form, counts against the published"
    status = _verb(actions, "status", _data_status, what, profile=False)
    command = _verb(actions, "add", _data_add, "recognise, check, and link or unpack a set", profile=False)
    for action in (status, command):
        action.add_argument("--root", default="data", help="the data folder (default: data)")
    command.add_argument("path", help="a folder, cuhk-03.mat or a ZIP archive")
    command.add_argument("--copy", action="store_true", help="copy a folder or file instead of linking to it")
    command.add_argument("--accept-differences", action="store_true", help="take data that differs from the published")


def _verb(commands, name: str, run: Callable | None, what: str, profile: bool = True) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=what)
    command.set_defaults(run=run or _called, verb=name)
    if profile:
        command.add_argument("--profile", default="smoke", help="a name in profiles/ or a YAML file (default: smoke)")
        command.add_argument("-p", dest="overrides", action="append", default=[], metavar="KEY=VALUE",
                             help="change one parameter; VALUE is YAML")  # fmt: skip
    return command


def _called(chosen) -> None:
    """Call the function of a verb in CALLED, loaded only now; a text that it returns is shown."""
    function, names = CALLED[chosen.verb]
    module, _, name = f"reproduction.{function}".rpartition(".")
    said = getattr(importlib.import_module(module), name)(*(getattr(chosen, key) for key in names.split()))
    if isinstance(said, str):
        print(said)


def _reproduce(chosen) -> None:
    from reproduction.runner import workflow

    where = (chosen.executor, chosen.jobs, chosen.more, chosen.gpus_per_training)
    print(workflow.verdicts(workflow.run(chosen.profile, chosen.overrides, chosen.force, where, chosen.given)))


def _plan(chosen) -> None:
    from reproduction.runner import plan, profiles, workflow

    print(plan.describe(profiles.load(chosen.profile, chosen.overrides), chosen.measure))
    print("\nSteps that `reid-core reproduce` would run now, and why")
    lines = workflow.reasons(chosen.profile, chosen.overrides)
    print("\n".join(f"  {line}" for line in lines) or "  none: all is up to date")


def _evaluate(chosen) -> None:
    from reproduction import evaluate

    given = {name: x or None for name, x in vars(chosen).items() if name not in ("run", "verb", "json")}
    print(evaluate.describe(evaluate.evaluate(given.pop("files"), **given), chosen.json))


def _compare(chosen) -> None:
    from reproduction import compare

    sys.exit(compare.run(chosen.first, chosen.second, chosen.all, chosen.across))


def _export(chosen) -> None:
    from reproduction import export

    facts = export.export(chosen.folder, chosen.output)
    print("\n".join([f"Written: {chosen.output}", *(f"  {name}: {value}" for name, value in facts.items())]))


def _data_status(chosen) -> None:
    from reproduction import experiment
    from reproduction.intake import status

    root = experiment.resolve(chosen.root)
    print(status.render_text(status.status(root), root))


def _data_add(chosen) -> None:
    from reproduction import experiment
    from reproduction.intake import add, status

    root = experiment.resolve(chosen.root)
    placed = add.add(chosen.path, root, copy=chosen.copy, accept_differences=chosen.accept_differences)
    print(status.render_text(placed, root))


if __name__ == "__main__":
    sys.exit(main())
