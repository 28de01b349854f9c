"""The one strict way to run a notebook: papermill, with its silences turned into errors.

Papermill only logs an unknown parameter or a missing `parameters` tag; a cell that calls `sys.exit(0)` or kills
its kernel leaves a notebook that looks finished; a value of the wrong type is injected as it is. Here each of
these raises. The executed copy of a failed notebook is kept for reading, under `failed/` beside the output.
"""

import ast
import functools
import itertools
import os
import re
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import nbformat

from reid_core import files, progress
from reproduction import results_folder, sidecar, words
from reproduction.runner import isolation, stopping, warm

FOLDER = sidecar.REPOSITORY / "notebooks"
ORIGIN = "reid_core"  # key of an executed copy's metadata
TO_STOP = 30  # seconds that a cell has to end once it was interrupted: a training writes its checkpoint
WIDGET = "application/vnd.jupyter.widget-view+json"


class NotebookError(RuntimeError):
    """A notebook did not run to its end; the message names the notebook, the cell and what happened."""


def names() -> list[str]:
    """Names of the kit's notebooks, in order, without suffix; others in the folder are their owner's."""
    return sorted({made.notebook for made in results_folder.MADE} | {"02_train"})


def find(name: str | os.PathLike) -> Path:
    """Path of a notebook given by its name (02_train, or one of one's own in `notebooks/`), by a unique beginning (02),
    or by its path. Raises FileNotFoundError listing the notebooks when there is none."""
    path = Path(name)
    if path.suffix == ".ipynb" and path.exists():
        return path.resolve()
    if (own := FOLDER / f"{path.stem}.ipynb").is_file():
        return own
    matches = [stem for stem in names() if stem.startswith(path.stem)]
    if len(matches) != 1:
        raise FileNotFoundError(f"There is no notebook {str(name)!r}; there are: {', '.join(names())}.")
    return FOLDER / f"{matches[0]}.ipynb"


def cells(notebook: Path) -> list[nbformat.NotebookNode]:
    """The cells of a stored notebook. Raises NotebookError for a file that is none."""
    try:
        return _book(notebook.read_text(encoding="utf-8")).cells
    except (ValueError, AttributeError, KeyError, nbformat.ValidationError) as error:
        reason = str(error).partition("\n")[0][:100] or type(error).__name__
        raise NotebookError(f"{notebook}: not a notebook that can be read ({reason}).") from None


_book = functools.lru_cache(maxsize=64)(functools.partial(nbformat.reads, as_version=4))  # by its text: takes 20 ms


def declared(notebook: str | os.PathLike) -> dict[str, Any]:
    """The parameters a notebook declares, with their defaults: the literals of its cell tagged `parameters`.
    Raises NotebookError for a file that is no notebook, for none or several such cells, and for another value."""
    notebook = Path(notebook)
    tagged = [cell for cell in cells(notebook) if "parameters" in cell.metadata.get("tags", [])]
    if len(tagged) != 1:
        raise NotebookError(f"{notebook}: {len(tagged)} cells are tagged 'parameters'; there must be one.")
    found = {}
    for statement in ast.parse(tagged[0].source).body:
        if not (isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name)):
            raise NotebookError(f"{notebook}: the parameters cell must only assign literals to names.")
        name = statement.targets[0].id
        try:
            found[name] = ast.literal_eval(statement.value)
        except ValueError:
            what = f"parameter {name!r} is not a literal; derive it in the next cell."
            raise NotebookError(f"{notebook}: {what}") from None
    return found


def check_value(name: str, value: Any, default: Any, where: str) -> None:
    """Raise TypeError unless `value` has the type of `default` (an int passes for a float, never a bool)."""
    if type(value) is type(default) or isinstance(default, float) and type(value) is int:
        return
    remedy = ""
    if isinstance(value, str) and isinstance(default, (int, float)):
        remedy = " YAML reads 1e-3 as text: write 1.0e-3." if "e" in value else " Write it without quotes."
    given, wanted = f"{value!r} ({type(value).__name__})", f"of type {type(default).__name__}, like {default!r}"
    raise TypeError(f"{where}: {name} is {given}, but must be {wanted}.{remedy}")


def check_parameters(notebook: str | os.PathLike, parameters: Mapping[str, Any]) -> None:
    """Raise ValueError for a parameter that the notebook does not declare, TypeError for one of another type."""
    known = declared(notebook)
    for name, value in parameters.items():
        if name not in known:
            raise ValueError(words.unknown_name(name, known, f"a parameter of {Path(notebook).name}"))
        check_value(name, value, known[name], Path(notebook).name)


def run(
    notebook: str | os.PathLike, output: str | os.PathLike, parameters: Mapping[str, Any],
    origin: Mapping[str, Any] | None = None, left: Callable[[], Mapping[str, Any]] = dict,
) -> float:  # fmt: skip
    """Execute a notebook with papermill and write the executed copy to `output`; return the seconds it took.

    Notebooks run in the repository's root, in a kernel that the user's own settings do not reach. Streams of the cells
    go to this process's as they come, of progress lines one a minute where these are no terminal. `output` appears only
    when every cell has run; otherwise NotebookError is raised and the executed copy is at `failed/<name>` beside it.
    `origin` is what the notebook is made from, for its sidecars and, with what `left()` adds at the end, for the
    executed copy (see :mod:`reproduction.runner.staleness`)."""
    notebook, output = Path(notebook), Path(output)
    check_parameters(notebook, parameters)
    failed = output.parent / "failed" / output.name
    started = time.perf_counter()
    known = dict(origin or {"name": notebook.stem, "parameters": dict(parameters)})
    with files.replacing(output) as temporary:
        try:
            with isolation.kernel_environment(), sidecar.made_from(known):
                _execute(notebook, temporary, parameters)
            _check_finished(temporary)
        except (KeyboardInterrupt, BrokenPipeError):
            raise
        except Exception as error:
            if temporary.exists():
                with files.replacing(failed) as kept:
                    kept.write_bytes(temporary.read_bytes())
            raise NotebookError(_explain(notebook, temporary, failed, error)) from error
        _tidy(temporary, known | left())
    failed.unlink(missing_ok=True)
    return time.perf_counter() - started


def _execute(notebook: Path, output: Path, parameters: Mapping[str, Any]) -> None:
    import papermill

    out, err = (stream if stream.isatty() else progress.Log(stream) for stream in (sys.stdout, sys.stderr))
    shown = {"progress_bar": False, "stdout_file": out, "stderr_file": err}
    quiet = ["--log-level=50"]  # the kernel's own log; a cell's errors come as outputs
    kernel = {"kernel_name": "python3", "kernel_manager_class": _kernel_manager(), "extra_arguments": quiet}
    where = {"cwd": str(sidecar.REPOSITORY), "start_timeout": 120}
    papermill.execute_notebook(str(notebook), str(output), dict(parameters), **shown, **kernel, **where)


def _kernel_manager() -> type:
    """Jupyter's kernel manager, but one that starts copies (`warm`), gives a cell time to end when this process was
    asked to stop, and else kills at once a kernel that has no more to do: its own way out takes a second."""
    from jupyter_client.manager import AsyncKernelManager

    class Patient(AsyncKernelManager):
        def format_kernel_cmd(self, extra_arguments: list[str]) -> list[str]:
            return warm.command(super().format_kernel_cmd(extra_arguments))

        def client(self, **given):  # whoever waits for a start lets 0.2 seconds pass in silence: here a tenth of it
            client = super().client(**given)
            read = client.iopub_channel.get_msg
            client.iopub_channel.get_msg = lambda timeout=None: read(timeout and timeout / 10)
            return client

        @property
        def shutdown_wait_time(self) -> float:
            return 2 * TO_STOP if stopping.asked() else 5.0  # half of it before the kernel is terminated

        async def shutdown_kernel(self, now: bool = False, restart: bool = False) -> None:
            await super().shutdown_kernel(now or not stopping.asked(), restart)

    return Patient


def _check_finished(executed: Path) -> None:
    for number, cell in enumerate(nbformat.read(executed, as_version=4).cells, start=1):
        if cell.cell_type != "code" or not cell.source.strip():
            continue
        for result in cell.outputs:
            if result.output_type == "error":
                raise NotebookError(f"cell {number} raised {result.ename}: {result.evalue or '(no message)'}")
        if cell.metadata.get("papermill", {}).get("status") != "completed" or cell.execution_count is None:
            raise NotebookError(f"cell {number} did not run: its kernel stopped before")


def _explain(notebook: Path, executed: Path, failed: Path, error: Exception) -> str:
    """The cell's own error, or what papermill said; where the executed copy is."""
    reason = str(error)
    if hasattr(error, "ename"):
        reason = f"cell {error.exec_count} raised {error.ename}: {error.evalue}"
    elif type(error).__name__ == "DeadKernelError":
        reason = "the kernel died (killed, or out of memory)"
    kept = f"\nThe notebook as far as it ran: {failed}" if executed.exists() else ""
    return f"{notebook.name}: {reason}{kept}"


def _tidy(executed: Path, origin: Mapping[str, Any]) -> None:
    """Write the origin into an executed copy, and drop what a reader has no use for: states of a progress line that
    later ones overwrite (each comes as a message of its own), and controls, which need a running kernel: the text that
    comes with them takes their place."""
    book = nbformat.read(executed, as_version=4)
    book.metadata.pop("widgets", None)
    book.metadata[ORIGIN] = dict(origin)
    for cell in book.cells:
        if cell.cell_type != "code":
            continue
        cell.outputs = _joined(cell.outputs)
        for result in cell.outputs:
            if result.output_type == "stream":
                result.text = "".join(map(as_seen, re.split(r"(?<=\n)", result.text)))
            result.get("data", {}).pop(WIDGET, None)
        cell.outputs = [o for o in cell.outputs if o.output_type != "stream" or o.text.strip()]
    nbformat.write(book, executed)


def _joined(outputs: list) -> list:
    """A cell's outputs with each run of messages of one stream as one output, in linear time, unlike nbclient's
    `coalesce_streams`, which moreover puts a stream's later text before the figures in between."""
    joined = []
    for name, run in itertools.groupby(outputs, lambda output: output.get("name")):
        if name is None:
            joined += run
        else:
            joined.append(nbformat.v4.new_output("stream", name=name, text="".join(o.text for o in run)))
    return joined


def without_outputs(model: dict[str, Any], **_: Any) -> None:
    """Jupyter's `pre_save_hook` in `make lab`: stores a notebook without outputs, which on official data show people;
    on the page they stay. `model`: the server's file to be saved, changed in place."""
    if model["type"] != "notebook":
        return
    model["content"]["metadata"].pop("widgets", None)
    for cell in model["content"]["cells"]:
        if cell["cell_type"] == "code":
            cell["outputs"], cell["execution_count"] = [], None


def as_seen(line: str) -> str:
    """What a terminal shows of a line once every carriage return has taken it back to the line's beginning.

    >>> as_seen("\\r 50%|##  |\\r100%|####|\\r           \\rdone\\n"), as_seen("\\r 50%|##  |\\r           \\r")
    ('done\\n', '')
    """
    text, end = line.removesuffix("\n"), "\n" * line.endswith("\n")
    seen = ""
    for part in text.split("\r"):
        seen = part + seen[len(part) :]
    return seen.rstrip() + end
