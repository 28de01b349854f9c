"""The command line, `reid-core`: the main job, its plan, single notebooks, the report, a number's origin, the data."""

import argparse
import gc
import importlib
import importlib.util
import os
import signal
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

from reid_core import __version__, machine
from reproduction.runner import isolation

VERBS = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
LACKING = VERBS.pop("lacking")
REPOSITORY = Path(__file__).resolve().parent.parent  # the sidecar's, which on Windows cannot be imported


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status (1: an error that was explained, 128 + n: stopped by signal n)."""
    few = {"OMP_NUM_THREADS": str(machine.cores())} if machine.cores() < (os.cpu_count() or 1) else {}
    for name, how in (isolation.SLEEPING | few).items():  # before PyTorch starts its threads, one a core of the machine
        os.environ.setdefault(name, how)
    isolation.open_streams()
    chosen = _parser().parse_args(arguments)
    if lacking := _lacking():
        print(f"reid-core: {lacking}", file=sys.stderr)
        return 1
    from reid_core import files
    from reproduction.runner.stopping import Stopped, heeded

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
    except (OSError, ValueError, TypeError, MemoryError, RuntimeError) as error:
        more = ". Make room; the same command continues." if getattr(error, "errno", None) in files.FULL else ""
        print(f"reid-core: {str(error) or type(error).__name__}{more}", file=sys.stderr)
        return 1
    return 0


def _lacking() -> str | None:
    """One sentence on what the reproduction lacks here, and the remedy; None where it has all."""
    if os.name == "nt":
        return LACKING["system"]
    try:
        os.getcwd()
    except FileNotFoundError:
        return LACKING["working folder"]
    if not (REPOSITORY / "Snakefile").is_file():
        return LACKING["clone"]
    absent = [name for name in LACKING["needed"].split() if importlib.util.find_spec(name) is None]
    return LACKING["packages"].format(", ".join(absent), sys.prefix, REPOSITORY) if absent else None


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
            kind = {"type": {"positive": _positive, "float": float}[how["type"]]} if "type" in how else {}
            command.add_argument(*flags.split(), **how | kind)
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1")
    return int(text)


def _called(chosen) -> None:
    """Call the function that cli.toml names, loaded only now; it returns a text to show, or an exit status."""
    function, names = VERBS[chosen.verb]["calls"]
    module, _, name = f"reproduction.{function}".rpartition(".")
    said = getattr(importlib.import_module(module), name)(*(getattr(chosen, key) for key in names.split()))
    if isinstance(said, int):
        sys.exit(said)
    print(said) if isinstance(said, str) else None


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


def _export(chosen) -> None:
    from reproduction import export

    facts = export.export(chosen.folder, chosen.output)
    print("\n".join([f"Written: {chosen.output}", *(f"  {name}: {value}" for name, value in facts.items())]))


def _data(chosen) -> None:
    from reproduction import experiment
    from reproduction.intake import add, status

    root, how = experiment.resolve(chosen.root), ("copy", "accept_differences")
    adds = chosen.verb == "data add"
    rows = add.add(chosen.path, root, **{x: getattr(chosen, x) for x in how}) if adds else status.status(root)
    print(status.render_text(rows, root))


OWN = {"reproduce": _reproduce, "plan": _plan, "evaluate": _evaluate, "export": _export,
       "data status": _data, "data add": _data}  # fmt: skip

if __name__ == "__main__":
    gc.set_threshold(100_000)  # what a step loads stays: it is not searched for garbage while it comes, or at the end
    status = main()
    if "torch" not in sys.modules:  # which tells at great length what was not collected
        gc.freeze()
    sys.exit(status)
