"""Every number has an address: the chain from a cell of a result back to its trainings, and the commands for it.

All of it is read from the file's sidecar of provenance and the row's own columns, so that a new table needs no code
here: it is explained when it is written by `tables.save` (or `plots.save`), names its run or runs in a column `run` or
`runs` (or in the sidecar), its set in `set` or `test_set`, and says `ap: none` where nothing was retrieved.
"""

import os
import textwrap
from collections.abc import Sequence

from reproduction import results_folder, tables
from reproduction.explain import chain, rows
from reproduction.explain.chain import Result
from reproduction.results_folder import shown
from reproduction.words import duration, unknown_name

WIDTH = 112  # characters of a line
LISTED = 60  # rows


def describe(path: str | os.PathLike, row: Sequence[str] = (), column: str | None = None) -> str:
    """What stands behind a result file, or behind one row or cell of a table, as text.

    `row` describes one row by VALUEs or COLUMN=VALUEs; without it, a table's rows are listed with how to name them.
    Raises FileNotFoundError for an unknown file or one without a sidecar, ValueError for a row or column that is
    unknown or not the only one, with what is nearest."""
    result = chain.read(path)
    if result.table is None:
        if row or column:
            raise ValueError(f"{result.shown} is no table; it has no rows to choose from.")
        return _text([_head(result), _made(result), *_behind(result, {})])
    if column is not None and column not in result.table:
        raise ValueError(f"{result.shown}: {unknown_name(column, list(result.table), 'a column of it')}")
    if not row and len(result.table) > 1:
        if column is not None:
            raise ValueError(f"{result.shown}: say which row; without --column, `reid-core explain` lists them.")
        return _text([_head(result), _made(result), _rows(result)])
    chosen = rows.choose(result.table, row, result.shown)
    line = result.table.iloc[chosen].to_dict()
    head = _head(result, rows.name(result.table, rows.name_columns(result.table), chosen))
    return _text([head, _cells(line, column), _made(result, line), *_behind(result, line)])


Block = tuple[str, list[str]]  # a heading and its lines


def _text(blocks: Sequence[Block]) -> str:
    return "\n\n".join("\n".join([heading, *map(_wrapped, lines)]) for heading, lines in blocks)


def _wrapped(line: str) -> str:
    """A line indented and wrapped; a command stays whole, to be copied."""
    if line.startswith("reid-core "):
        return f"  {line}"
    parts = textwrap.wrap(line, WIDTH, subsequent_indent=" " * 12, break_long_words=False, break_on_hyphens=False)
    return "\n".join(f"  {part}" for part in parts or [""])


def _head(result: Result, row: str = "") -> Block:
    state = "as it was written" if result.unchanged else "CHANGED since it was written"
    digest = result.record["files"][result.path.name][:12]
    return f"{result.shown}{f', row {row}' if row else ''}", [f"{state} (SHA-256 {digest} in its sidecar)"]


def _rows(result: Result) -> Block:
    table, columns = result.table, rows.name_columns(result.table)
    if not columns:
        return "Rows", [f"{len(table)}, which no few columns tell apart; name one by --row COLUMN=VALUE ..."]
    count = len(table) if len(table) <= LISTED else 3
    names = (rows.name(table, columns, row) for row in range(count))
    lines = [f"reid-core explain {result.shown} --row {name}" for name in names]
    if count < len(table):
        lines.append(f"... and {len(table) - count} more, told apart by {', '.join(columns)}")
    return f"Rows: {len(table)}", lines


def _cells(line: dict[str, str], column: str | None) -> Block:
    """The row's cells as they stand in the CSV; of one column, it, the paper's figure beside it, and its interval."""
    names = [name for name, value in line.items() if value and name not in rows.FACTS]
    if column is not None:
        asked = (f"paper_{column.removeprefix('ours_')}", column, f"{column}_low", f"{column}_high")
        names = [name for name in dict.fromkeys(asked) if name in line]
    width = max(map(len, names))
    return "Cells", [f"{name:<{width}}  {line[name] or '(empty)'}" for name in names]


def _made(result: Result, line: dict[str, str] | None = None) -> Block:
    record = result.record
    seeds = (line or {}).get("seeds") or record.get("seeds")
    facts = {
        "data": _data(result), "profile": record["profile"], "AP": record["ap"],
        "seeds": " ".join(map(str, seeds)) if isinstance(seeds, list) else str(seeds or "none"),
        "settings": _listed(result.settings), "notebook": _notebook(result),
        "written": record["created"].replace("T", " ").replace("+00:00", " UTC"),
        "commit": _commit(record), "device": record["device"], "versions": _listed(record["versions"]),
    }  # fmt: skip
    return "Made", [f"{name:<10}{value}" for name, value in facts.items() if value]


def _commit(record: dict, digits: int = 40) -> str:
    if not (commit := record.get("commit")):
        return "not known"
    return commit["id"][:digits] + (" with local changes" if commit["modified"] else "")


def _listed(facts: dict[str, object]) -> str:
    return ", ".join(f"{key} {f'({_listed(one)})' if isinstance(one, dict) else one}" for key, one in facts.items())


def _data(result: Result) -> str:
    source, root = result.record["data_source"], result.parameters.get("data_root")
    if not root:
        return source
    if not (about := results_folder.embedded_record(root)):
        return f"{source}, {root}" + (": gone" if source == "embedded" else "")
    version = f"renderer version {about['renderer_version']}, seed {about['seed']}, digest {about['digest']}"
    return f"{source}, {root}: {version}"


def _notebook(result: Result) -> str:
    if result.notebook is None:
        return "none recorded: written outside of a notebook, or by an earlier version of the kit"
    if not result.parameters:
        return f"{result.notebook}, run in JupyterLab: the parameters are those of its cells, not known here"
    if result.of_its_copy is None:
        return f"{result.notebook}, no executed copy"
    kept = f"{result.notebook}, executed copy {shown(result.folder.copy(result.notebook))}"
    return kept if result.of_its_copy else f"{kept}, which is of ANOTHER run than this file"


def _behind(result: Result, line: dict[str, str]) -> list[Block]:
    """The blocks after the facts: why a row is empty, its seeds, files, method, trainings, features, commands."""
    status = line.get("status", tables.MEASURED)
    if status != tables.MEASURED:
        return [("Not measured", [status]), _again(result, [])]
    names = chain.runs(result, line)
    blocks = [_seeds(result, line), _files(result, line), _method(result, line), _trainings(result, names),
              _features(result, line, names)]  # fmt: skip
    return [block for block in blocks if block] + [_again(result, names)]


def _seeds(result: Result, line: dict[str, str]) -> Block | None:
    if not (found := chain.seeds_behind(result, line)):
        return None
    path, table = found
    each = table[[name for name in ("seed", "run", *tables.SCORES) if name in table]].to_dict("records")
    lines = [_listed({name: value for name, value in one.items() if value}) for one in each]
    lines += [
        f"mean {score} {mean:.2f} per cent: " + ("this row's" if agrees else "NOT this row's, which is of other seeds")
        for score, (mean, agrees) in chain.mean_agrees(line, table).items()
    ]  # fmt: skip
    return f"Seeds behind the mean, {shown(path)}", lines


def _files(result: Result, line: dict[str, str]) -> Block | None:
    """The files that a verdict or an interval was read from, each with the command that explains it."""
    names = line.get("files", "").split()
    if line.get(tables.PEOPLE) and "files" not in line:
        names = [f"{result.path.stem}_people.csv"]
    paths = map(result.path.with_name, names)
    lines = [f"reid-core explain {shown(path)}" if path.is_file() else f"{path.name}: gone" for path in paths]
    return ("Read from", lines) if names else None


def _method(result: Result, line: dict[str, str]) -> Block | None:
    if not (about := chain.literature(result, line)):
        return None
    given = about["settings"]
    settings = ", ".join(f"{name}={value}" for name, value in given.items()) or "its defaults"
    learnt = "trained on the kit's loop, in the run below" if line.get("runs") else None
    lines = [f"{about['function']}({settings})", learnt or "learnt anew in the notebook, not kept"]
    kept = chain.lomo_files(result, line, given.get("retinex", True)) if about["lomo"] else []
    lines += [f"LOMO of {subset}: {shown(path)}, {'there' if there else 'gone; read again when needed'}"
              for subset, path, there in kept]  # fmt: skip
    return "Method", lines


def _trainings(result: Result, names: Sequence[str]) -> Block | None:
    lines = []
    for name in names:
        record = result.folder.run(name)
        folder = shown(result.folder.path / "runs" / name)
        if record is None or not record.get("finished"):
            lines.append(f"{folder}: {'gone' if record is None else 'not finished'}")
            continue
        recipe, agree = record["recipe"], chain.weights_agree(result, name, record)
        kept = "weights GONE" if agree is None else "weights as trained" if agree else "weights CHANGED since training"
        lines += [
            f"{folder}: {kept}, digest {record['weights_digest'][:12]}",
            f"  {record['model']}, {record.get('settings') or recipe.get('backbone')}, seed {record['seed']},"
            f" {recipe['iterations']} iterations, {duration(record['seconds'])} on {record['device']}",
            f"  started from weights: {results_folder.initial_weights(record)}",
            f"  data digest {record['data_digest'][:12]}, {record['images']} images of {record['num_classes']} people;"
            f" commit {_commit(record, 12)}; every setting: run.json",
        ]
    return ("Trainings", lines) if names else None


def _features(result: Result, line: dict[str, str], names: Sequence[str]) -> Block | None:
    lines = []
    for name in names:
        record = result.folder.run(name)
        for path in chain.features(result, line, name):
            meta = chain.feature_meta(path)
            if meta is None:
                lines.append(f"{shown(path)}: gone or damaged; extracted again when needed")
                continue
            same = record is not None and meta["weights_digest"] == record.get("weights_digest")
            lines.append(
                f"{shown(path)}: {'of these weights' if same else 'of OTHER weights than the run has now'},"
                f" {meta['output']}, {meta['rows']} images at {meta['height']}x{meta['width']}"
            )
    return ("Features", lines) if lines else None


def _again(result: Result, names: Sequence[str]) -> Block:
    lines = [part for command, words in chain.commands(result, list(names)) for part in (f"# {words}", command)]
    if lines and names:
        lines += ["# a finished training of the same recipe and data is kept; move its folder away to train anew"]
    unknown = f"the notebook is not recorded: reid-core reproduce --profile {result.record['profile']}"
    return "Make it again", lines or [unknown]
