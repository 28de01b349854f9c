"""Where everything on the page comes from: files, notebooks, commands, runs, commits, versions."""

import shlex
from typing import Any

from reproduction import experiment, results_folder, tables
from reproduction.report.sources import Results
from reproduction.runner import notebooks
from reproduction.words import duration, text


def address(found: Results, section: str) -> dict[str, Any]:
    """Where a part of the page comes from: its files, the notebook and its executed copy, the command that makes them
    and those that `explain` its numbers, one a table or figure that is there."""
    made = results_folder.section(section)
    stems, notebook = dict.fromkeys(one.stem for one in made), made[0].notebook
    links = (found.link(found.path / f"{stem}{suffix}") for stem in stems
             for suffix in (".csv", ".png", ".svg", ".json"))  # fmt: skip
    tables_of = {f"{stem}.csv" for stem in stems}
    return {
        "files": list(filter(None, links)), "notebook": notebook, "executed": found.link(found.copy(notebook)),
        "command": found.command(notebook), "explain": list(filter(None, (explained(found, stem) for stem in stems))),
        "claims": [line.claim for line in found.claims.itertuples() if tables_of & set(read_from(line))],
    }  # fmt: skip


def read_from(claim) -> list[str]:
    """The files that the verdict of a line of claims.csv was read from."""
    return text(getattr(claim, "files", "")).split()


def explained(found: Results, stem: str) -> str | None:
    """The command that says where a table's or, without a table, a figure's numbers come from."""
    there = [f"{stem}{suffix}" for suffix in (".csv", ".png") if (found.path / f"{stem}{suffix}").is_file()]
    return f"reid-core explain {shlex.quote(f'{found.shown}/{there[0]}')}" if there else None


def origin(found: Results) -> dict[str, list[str]]:
    """Commits, devices and versions behind the files and runs: one value each, or all that there are."""
    records = [*found.sidecars.values(), *found.runs.values()]
    commits = [record["commit"] for record in records if record.get("commit")]
    named = {f"{c['id'][:12]}{' with local changes' if c['modified'] else ''}" for c in commits}
    versions: dict[str, set[str]] = {}
    for record in records:
        for package, version in record.get("versions", {}).items():
            versions.setdefault(package, set()).add(version)
    times = sorted(record["created"] for record in found.sidecars.values() if record.get("created"))
    return {
        "commits": sorted(named) or ["not known (not a git checkout)"],
        "devices": sorted({record["device"] for record in records if record.get("device")}),
        "versions": [f"{package} {' / '.join(sorted(each))}" for package, each in versions.items()],
        "trained": duration(sum(run["seconds"] for run in found.runs.values() if run.get("finished"))),
        "made": [time[:16].replace("T", " ") for time in (times[0], times[-1])] if times else [],
        "matching": [f"{key} = {value}" for key, value in
                     found.sidecars.get("table2", found.sidecars.get("table3", {})).get("matching", {}).items()],
    }  # fmt: skip


def runs(found: Results) -> list[dict[str, Any]]:
    """Every training, missing ones too: what, on what, how long, on which data."""
    lines = []
    for name in dict.fromkeys((*_expected(found), *found.runs)):
        record = found.runs.get(name, {})
        known = bool(record.get("finished"))
        lines.append({
            "name": name, "known": known, "status": "" if known else "not finished" if record else tables.NOT_YET,
            "record": record, "started": results_folder.initial_weights(record) if known else "",
            "link": found.link(found.path / "runs" / name / "run.json"),
        })  # fmt: skip
    return lines


def _expected(found: Results) -> list[str]:
    """Names of the runs that the claims' seeds ask for."""
    seeds = [int(seed) for seed in found.facts["seeds"].split() if seed.isdigit()]
    return [experiment.run_name(*training, seed) for seed in seeds for training in experiment.trainings()]


def executed(found: Results) -> list[dict[str, Any]]:
    """Every executed notebook, and the runs and notebooks of the kit that have no executed copy."""
    names = {*found.executed, *(f"02_train-{run}" for run in _expected(found))}
    names |= {name for name in notebooks.names() if not any(copy.partition("-")[0] == name for copy in names)}
    return [
        {"name": name, "link": found.link(found.copy(name)), "command": found.command(name),
         "time": duration(seconds) if (seconds := found.executed.get(name, {}).get("duration")) else ""}
        for name in sorted(names)
    ]  # fmt: skip


def files(found: Results) -> list[dict[str, str]]:
    """The files that a sidecar describes: link, when made, commit, SHA-256."""
    return [
        {"name": name, "link": found.link(found.path / name), "sidecar": f"{stem}.json",
         "created": record["created"], "digest": digest[:12], "commit": record.get("commit")}
        for stem, record in found.sidecars.items()
        for name, digest in record["files"].items()
    ]  # fmt: skip
