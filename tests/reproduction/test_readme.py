"""The pages for readers: every command that they print is run, links and paths lead somewhere, tables are the kit's.

A command is run here on profile tiny (RUN), by another test (ELSEWHERE), or, where it takes minutes, a GPU, the
official data or another installation, only understood (UNDERSTOOD, each with why). A new command on a page fails the
first test until it is in one of the three.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import official_structure
import pandas as pd
import pytest

from reproduction import cli, explain, paper, results_folder, tables
from reproduction.sidecar import REPOSITORY

BENCHMARKS = tuple(f"benchmarks/{name}/README.md" for name in ("explorer", "retrieval", "training"))
PAGES = ("README.md", "docs/cluster.md", "data/README.md", "results/README.md", *BENCHMARKS)
TEXT = {page: (REPOSITORY / page).read_text(encoding="utf-8") for page in PAGES}
PROGRAM = re.compile(r"(?:[A-Z_]+=\S+ )*(?:make|reid-core|conda|papermill|pip|python|peer/bin/\w+|apt) \S")

SMOKE = "tests/end_to_end/test_smoke.py::test_every_claim_has_a_verdict"
INSTALL = (
    "tests/end_to_end/test_environment.py::test_the_pip_part_installs_into_an_empty_environment_and_imports_the_kit"
)
OWN = "tests/end_to_end/test_official_structure.py::test_own_data_goes_through_the_notebooks"
LEFT_OUT = "reid-core reproduce --profile paper -p near_duplicates=leave_out -p results_root=results/paper-left-out"
LAB = "tests/notebooks/test_jupyterlab.py::test_run_all"

SLURM = "reid-core reproduce --profile paper --executor slurm --jobs 20"

RUN = (
    "reid-core explain results/smoke/table2.csv",
    "reid-core explain results/smoke/table2.csv --row HCN+re-rank cuhk03_labeled",
    "reid-core notebook 03_table2_cuhk03 -p k1=25",
    "reid-core report",
    "reid-core data status",
    "reid-core data add PATH",
)
RUN_SLOWLY = (
    "reid-core plan --profile paper",
    "papermill -f profiles/smoke.yaml notebooks/03_table2_cuhk03.ipynb out.ipynb",
    "python benchmarks/training/flops.py --tflops 989",
)
APART = "tests/reproduction/test_evaluate.py::test_parts_in_files_apart_score_the_same"
WHOLE = "tests/reproduction/test_evaluate.py::test_scores_are_those_of_the_library_on_the_same_arrays"
SHIPPED = "tests/reproduction/test_compare.py::test_a_run_of_smoke_is_set_beside_the_tables_that_the_repository_ships"
ONNX = "tests/reproduction/test_export.py::test_onnxruntime_gives_pytorch_s_features_for_any_number_of_images"
BUNDLE = "tests/end_to_end/test_taken_bundle.py::test_the_tables_are_those_of_the_sender_and_nothing_is_trained"
ELSEWHERE = {
    "reid-core bundle results/smoke -o smoke.zip": BUNDLE,
    "reid-core reproduce --profile smoke --from smoke.zip": BUNDLE,
    "reid-core compare results/smoke results/reference/smoke": SHIPPED,
    "python docs/reference.py": SHIPPED,
    "reid-core evaluate pytorch_result.mat --metric cosine --rerank": WHOLE,
    "reid-core evaluate --query q.npz --gallery g.npz --train t.npz --metric xqda --json": APART,
    "reid-core export RUN -o model.onnx": ONNX,
    "make reproduce": SMOKE,
    "make lab": LAB,
    "reid-core notebook 01 --profile paper -p 'own_sets=[shop.csv]'": OWN,
    "reid-core notebook 02 --profile paper -p train_set=shop.csv -p 'schedules={shop.csv: {iterations: 20000}}'": OWN,
    "reid-core notebook 09 --profile paper -p 'own_sets=[shop.csv]'": OWN,
    "reid-core notebook 08 --profile paper -p rank_list_set=shop.csv": OWN,
    "conda env create -f environment.yml": INSTALL,
}
UNDERSTOOD = {
    "make test": "it is what runs this; .ci/run has it",
    "make check": "it runs the slow tests; .ci/run has it",
    "make gpu-check": "25 minutes of a GPU",
    "make reproduce PROFILE=paper": "official data; end_to_end/test_official_structure.py rehearses it on demand",
    LEFT_OUT: "official data; the setting is tried in test_experiment.py and test_near_duplicate_effect.py",
    "reid-core reproduce -p unreadable=drop": "all of profile smoke; the setting is tried in test_experiment.py",
    "reid-core plan --measure 60": "minutes; test_cli.py holds the projection to a measurement",
    "make reproduce PROFILE=paper-large-batch": "official data and a GPU; training/test_recipe.py holds it to paper",
    f"{SLURM} -- --default-resources slurm_partition=gpu": "a cluster; end_to_end/test_slurm.py tries one",
    SLURM: "a cluster; end_to_end/test_slurm.py tries one",
    "pip install -e '.[cluster]'": "installs",
    "make reproduce PROFILE=gpu": "hours without a GPU",
    "make reproduce PROFILE=<profile>": "stands for the commands above",
    "REID_CORE_CACHE=/other/disk make reproduce": "the folder is the reader's",
    "PIP_NO_CACHE_DIR=1 make reproduce": "installs 6 GB",
    "PIP_NO_INDEX=1 PIP_FIND_LINKS=$PWD/wheels make reproduce": "installs 6 GB",
    "pip install torch==2.14.1 torchvision==0.29.2 --index-url https://download.pytorch.org/whl/cu126": "an old GPU's",
    "pip install -e '.[onnx]'": "installs three packages; test_export.py holds the words to the extra",
    "pip install .": "installs PyTorch; tests/test_structure.py imports the library alone",
    "pip download -r requirements.lock -d wheels": "downloads 3 GB",
    'pip download "setuptools>=77" -d wheels': "goes with it",
    "apt install python3-venv": "changes the system",
    "conda activate reid-core": "needs conda",
    "python benchmarks/retrieval/compare.py --peers build/peers": "minutes to hours",
    "python benchmarks/retrieval/compare.py --peers build/peers --sizes --scaling": "a quarter of an hour, 15 GiB",
    "python benchmarks/retrieval/compare.py --sizes --wide": "a quarter of an hour, 8 GiB",
    "python benchmarks/explorer/redraw.py": "a minute or two",
    "python benchmarks/training/step.py --data-root data/embedded/smoke": "minutes",
    "python benchmarks/training/precision.py --data-root data/embedded/smoke": "minutes",
    "python benchmarks/training/precision.py --data-root data/embedded/smoke --rounds 5 --seeds 0 1": "minutes",
    "python benchmarks/training/precision.py --data-root data/embedded/smoke --rounds 2 --paper": "minutes",
    "OMP_NUM_THREADS=1 python benchmarks/retrieval/stages.py": "test_retrieval.py tries it at a small size",
    "python benchmarks/training/throughput.py --data-root data/embedded/smoke": "minutes",
    "pip install --no-deps --target build/peers torchreid==0.2.5 fastreid==1.4.0 faiss-cpu": "downloads the peers",
    "python -m venv peer": "the peer's own environment",
    "peer/bin/pip install torch torchvision torchreid tensorboard gdown opencv-python-headless": "downloads the peer",
}


def printed(page: str) -> list[str]:
    """The commands of a page's code blocks and spans, one a program, without comments and [options]."""
    text = re.sub(r"```python\n.*?```", "", TEXT[page], flags=re.DOTALL)
    lines = re.findall(r"^    (\S.*)$", text, re.MULTILINE) + re.findall(r"(?<!`)`([^`\n]+)`(?!`)", text)
    parts = [re.sub(r" \[.*\]", "", part).strip() for line in lines for part in re.split(r"\s+#|&&", line)]
    return [part for part in parts if PROGRAM.match(part)]


COMMANDS = {command: page for page in PAGES for command in printed(page)}


def test_every_command_of_every_page_is_run_or_said_why_not():
    accounted = [*RUN, *RUN_SLOWLY, *ELSEWHERE, *UNDERSTOOD]
    assert len(accounted) == len(set(accounted))
    assert set(COMMANDS) == set(accounted)
    assert {page.partition("/")[0] for page in COMMANDS.values()} >= {"README.md", "data", "results", "benchmarks"}


@pytest.fixture(scope="module")
def here(kit, tmp_path_factory):
    """A folder to run in: results of profile tiny as results/smoke (hard links), and a set to be added as PATH."""
    folder = tmp_path_factory.mktemp("reader")
    locks = shutil.ignore_patterns(".lock")
    shutil.copytree(kit.results, folder / "results" / "smoke", copy_function=os.link, ignore=locks)
    official_structure.market1501(folder / "PATH", official_structure.small_market1501_rows())
    return folder


def with_places(command: str, kit, here) -> list[str]:
    """The words of a command and, after them, profile tiny and the places that a reader has in the checkout."""
    words = shlex.split(command)
    if words[1] in ("notebook", "report"):
        places = (f"data_root={kit.folder / 'data'}", f"results_root={here / 'results' / 'smoke'}")
        words += ["--profile", "tiny", *(word for place in places for word in ("-p", place))]
    if words[1:3] == ["data", "add"]:
        words += ["--root", str(here / "data"), "--accept-differences"]
    return words


@pytest.mark.parametrize("command", RUN)
def test_commands_run_as_printed(command, kit, here, monkeypatch, capsys):
    monkeypatch.chdir(here)
    monkeypatch.setenv("REID_CORE_CACHE", kit.environment["REID_CORE_CACHE"])
    assert cli.main(with_places(command, kit, here)[1:]) == 0, capsys.readouterr().err
    said = capsys.readouterr().out
    if " explain " in command:
        assert "Make it again" in said if "--row" in command else "Rows: " in said
    elif " notebook " in command:
        (made,) = Path("results/smoke/single").glob("03_table2_cuhk03-*/table2.json")
        assert json.loads(made.read_text())["matching"]["k1"] == 25
        assert json.loads(Path("results/smoke/table2.json").read_text())["matching"]["k1"] == 20
        assert re.search(
            r"reid-core notebook 03_table2_cuhk03 .*-p k1=25",
            explain.describe(made.with_suffix(".csv"), ["HCN", "cuhk03_labeled"]),
        )
    elif " report" in command:
        assert (here / "results" / "smoke" / "report.html").stat().st_size > 50_000
    else:
        assert "Market-1501" in said


def test_the_command_is_installed_under_its_name():
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run("reid-core --version", shell=True, env=environment, capture_output=True, text=True)
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", done.stdout), done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("command", RUN_SLOWLY)
def test_longer_commands_run_as_printed(command, tmp_path):
    words = shlex.split(command)
    if words[0] == "papermill":
        made = REPOSITORY / "results" / "smoke"
        if not (made / "claims.csv").is_file():
            pytest.skip("needs the finished smoke run (make reproduce)")
        locks = shutil.ignore_patterns(".lock")
        shutil.copytree(made, tmp_path / "smoke", copy_function=os.link, ignore=locks)
        words[-1] = str(tmp_path / "out.ipynb")
        words += ["-p", "results_root", str(tmp_path / "smoke")]
    words[0] = {"python": sys.executable}.get(words[0], str(Path(sys.executable).parent / words[0]))
    done = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    if words[0].endswith("papermill"):
        assert (tmp_path / "out.ipynb").is_file()
    else:
        assert "75000 iterations" in done.stdout or "2.282e+17" in done.stdout


@pytest.mark.parametrize("command", ELSEWHERE)
def test_the_other_tests_are_there(command):
    path, _, name = ELSEWHERE[command].partition("::")
    assert f"def {name}(" in (REPOSITORY / path).read_text()


@pytest.mark.parametrize("command", [*ELSEWHERE, *UNDERSTOOD])
def test_long_commands_are_understood(command):
    """make knows the target, a script of the kit every option; other programs are not the kit's."""
    words = shlex.split(command.replace("<profile>", "smoke"))
    words = [word for word in words if not re.match(r"(REID|PIP|OMP)_", word)]
    if words[0] == "make":
        planned = subprocess.run([*words, "--dry-run"], cwd=REPOSITORY, capture_output=True, text=True)
        assert planned.returncode == 0
        if words[1] == "reproduce":
            profile = words[2].removeprefix("PROFILE=") if len(words) == 3 else "smoke"
            assert f'-m reproduction.cli reproduce --profile "{profile}"\n' in planned.stdout
        elif words[1] in ("test", "check"):
            assert f"\n{command}\n" in (REPOSITORY / ".ci" / "run").read_text()
    elif words[0] == "python" and words[1].endswith(".py"):
        told = subprocess.run([sys.executable, words[1], "--help"], cwd=REPOSITORY, capture_output=True, text=True)
        assert all(word in told.stdout for word in words if word.startswith("--")), told.stderr


@pytest.mark.parametrize("page", PAGES)
def test_links_of_the_pages_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)", TEXT[page]):
        if not target.startswith("http"):
            assert ((REPOSITORY / page).parent / target).exists(), target


def test_pictures_are_small_and_have_words_for_those_who_do_not_see_them():
    pictures = [(page, *found) for page in PAGES for found in re.findall(r"!\[([^\]]*)\]\(([^)]+)\)", TEXT[page])]
    assert pictures
    for page, words, target in pictures:
        assert len(words.split()) >= 4 and ((REPOSITORY / page).parent / target).stat().st_size < 400_000, target


def test_paths_of_the_readmes_tree_exist():
    """Every file and folder at the top of both packages has its line, and no other has one."""
    lines = TEXT["README.md"].split("## Layout")[1].split("##")[0].splitlines()
    names, folder = {}, ""
    for line in lines:
        if line.startswith("    "):  # names stand in the first 32 columns, those in a folder further in
            folder = folder if line.startswith("      ") else line[:32].strip()
            names.setdefault(folder, []).extend(line[:32].split() if line.startswith("      ") else ())
    for package in ("reid_core/", "reproduction/"):
        there = [path for path in (REPOSITORY / package).iterdir() if not path.name.startswith("__")]
        assert sorted(names[package]) == sorted(path.name + "/" * path.is_dir() for path in there)
    for name in " ".join(names).split():
        assert (REPOSITORY / name).exists(), name


def test_the_readme_says_of_each_notebook_what_it_makes():
    rows = re.findall(r"^\|[^|]+\| \[\w+\]\(notebooks/(\w+)\.ipynb\) \| (.+) \|$", TEXT["README.md"], re.MULTILINE)
    assert {name for name, _ in rows} == {one.notebook for one in results_folder.MADE} | {"02_train"}
    for name, cell in rows:
        made = {path.name for path in results_folder.files(name, Path(), Path())} | {"runs/"}
        assert set(re.findall(r"`([^`]+)`", cell)) <= made, name


def test_every_result_is_on_the_results_page():
    for one in results_folder.MADE:
        for suffix in one.suffixes:
            shown = (f"`{one.stem}{suffix}`", f"`{one.stem}.*`", f"`{one.stem}.png`, `.svg`")
            assert any(words in TEXT["results/README.md"] for words in shown), one


def test_every_notebook_has_its_row():
    for path in sorted((REPOSITORY / "notebooks").glob("*.ipynb")):
        assert f"(notebooks/{path.name})" in TEXT["README.md"], path.name


def test_every_file_of_a_run_is_on_the_results_page(kit):
    made = {path.name for path in kit.results.iterdir() if path.suffix in (".csv", ".png", ".html")}
    for name in sorted(made):
        assert any(shown in TEXT["results/README.md"] for shown in (f"`{name}`", f"`{Path(name).stem}.*`")), name


def test_troubles_are_those_that_the_kit_says():
    troubles = TEXT["README.md"].split("## If something stops")[1]
    files = (REPOSITORY / "Makefile", *(REPOSITORY / "reproduction" / "runner").glob("*.py"))
    sources = "".join(path.read_text() for path in files)
    for words in (
        "could not make .venv/",
        "No Python 3.11 to 3.13 was found",
        "another `make reproduce` is at work here",
    ):
        assert words in sources and words.replace("`", "") in troubles.replace("`", ""), words


@pytest.fixture(scope="module")
def readme_tables(script):
    return script("docs/readme_tables.py")


def test_the_readmes_results_are_ours_alone_with_their_intervals(readme_tables):
    """Of embedded data: every row of baseline and HCN, each score with its interval, and no figure of the paper."""
    part = TEXT["README.md"].split(readme_tables.START)[1].split(readme_tables.END)[0]
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in part.splitlines() if line.startswith("|")]
    assert lines[0][1:] == [f"{paper.SET_TITLES[name]}: {score}" for name in paper.SETS for score in ("rank-1", "mAP")]
    assert [line[0] for line in lines[2:]] == [
        f"{title}, {metric}" for title in readme_tables.MODELS.values() for metric in ("Euclidean", "XQDA")
    ]
    for _, *cells in lines[2:]:
        for cell in cells:
            value, low, high = map(float, re.fullmatch(r"([\d.]+) \(([\d.]+)–([\d.]+)\)", cell).groups())
            assert 0 <= low <= value <= high <= 100 and low < high
    text = TEXT["README.md"].split("## Results")[1].split("\n## ")[0]
    for row in paper.ROWS:
        for rank1, average in row.printed.values():
            assert f"{rank1:.1f} / {average:.1f}" not in text and f"{rank1} / {average}" not in text
    assert "docs/results.png" in text and "none of the paper's numbers" in text


def test_the_readmes_results_are_written_from_a_results_folder(readme_tables, kit, tmp_path, monkeypatch):
    copy, picture = tmp_path / "README.md", tmp_path / "results.png"
    copy.write_text(TEXT["README.md"])
    monkeypatch.setattr(readme_tables, "README", copy)
    monkeypatch.setattr(readme_tables, "PICTURE", picture)
    readme_tables.main(str(kit.results))
    text, drawn = copy.read_text(), picture.read_bytes()
    before, after = (TEXT["README.md"].split(mark) for mark in (readme_tables.START, readme_tables.END))
    assert text.startswith(before[0]) and text.endswith(after[1])
    line = pd.read_csv(kit.results / "table3.csv").set_index("method").loc["HCN+re-rank"]
    ours = [tables.within(*(line[f"ours_{score}{end}"] for end in ("", "_low", "_high"))) for score in tables.SCORES]
    (row,) = [row for row in text.splitlines() if row.startswith("| HCN, Euclidean |")]
    assert row.endswith(f"| {' | '.join(ours)} |")
    assert f"With {line['people']:.0f}" in text or f"–{line['people']:.0f} test people" in text
    readme_tables.main(str(kit.results))
    assert copy.read_text() == text and picture.read_bytes() == drawn, "written twice, the same"
