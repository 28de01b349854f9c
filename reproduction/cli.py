"""The command line, `reid-core`: the main job, its plan, single notebooks, the report, a number's origin, the data."""

import argparse
import importlib
import importlib.util
import os
import signal
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

from reid_core import __version__
from reproduction.runner import isolation

VERBS = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
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
    """As cli.toml has it."""
    parser = argparse.ArgumentParser(prog="reid-core", description=__doc__)
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    data = None
    for name, verb in VERBS.items():
        group, _, action = name.rpartition(" ")
        if group and data is None:
            about = commands.add_parser("data", help="the official data sets on this machine")
            data = about.add_subparsers(required=True, metavar="ACTION")
        command = (data if group else commands).add_parser(action, help=verb["help"])
        command.set_defaults(run=OWN.get(name, _called), verb=name)
        if "profile" in verb:
            what = "a name in profiles/ or a YAML file (default: smoke)"
            command.add_argument("--profile", default="smoke", help=what)
            command.add_argument("-p", dest="overrides", action="append", default=[], metavar="KEY=VALUE",
                                 help="change one parameter; VALUE is YAML")  # fmt: skip
        for flags, how in verb.get("arguments", {}).items():
            kind = {"type": {"int": int, "float": float}[how["type"]]} if "type" in how else {}
            command.add_argument(*flags.split(), **how | kind)
    return parser


def _called(chosen) -> None:
    """Call the function that cli.toml names for a verb, loaded only now; a text that it returns is shown."""
    function, names = VERBS[chosen.verb]["calls"]
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


OWN = {"reproduce": _reproduce, "plan": _plan, "evaluate": _evaluate, "compare": _compare, "export": _export,
       "data status": _data_status, "data add": _data_add}  # fmt: skip

if __name__ == "__main__":
    sys.exit(main())
