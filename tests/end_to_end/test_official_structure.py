"""Profile paper rehearsed on files of the official structure with pictures of a few pixels.

A few people of every set, and Market-1501 alone, always; the official counts (68,113 pictures) with
REID_REHEARSAL=full, where the official arrays are (REID_PROTOCOLS or ../shared/protocols).
"""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import official_structure
import pandas as pd
import pytest

from reproduction import paper, tables
from reproduction.sidecar import REPOSITORY

pytestmark = pytest.mark.slow

RECIPE = {
    "recipe": "{backbone: resnet18, weights: random, batchnorm: live, height: 32, width: 32, batch_size: 8}",
    "schedules": "{" + ", ".join(f"{name}: {{iterations: 2}}" for name in (*paper.SETS, paper.COMBINED)) + "}",
    "literature": "[Colour histogram]",
    "form_seconds": "0.2",
    "sensitivity_seeds": "[0]",
    "sensitivity_schedule": "{iterations: 2}",
    "sensitivity_variants": "[adjacent]",
    "sensitivity_controls": "{heads_alone: [cuhk03_labeled], baseline_twice: [market1501]}",
    "sensitivity_matching": "{k1: [10]}",
    "sensitivity_pairings": "1",
}

SETS = (official_structure.MARKET1501, official_structure.CUHK03_MAT, "CUHK01")


@dataclass
class Owner:
    """Somebody with official data at `folder`/data who runs the commands of the README with two steps a training."""

    folder: Path

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def results(self) -> Path:
        return self.folder / "results" / "paper"

    @property
    def private(self) -> Path:
        return self.folder / "results" / "private" / "paper"

    def run(self, *words: str, **changes: str) -> str:
        """What `reid-core WORDS --profile paper` prints, the recipe and places changed; it must not fail."""
        changes = RECIPE | {"data_root": str(self.data), "results_root": str(self.results)} | changes
        given = [word for name, value in changes.items() for word in ("-p", f"{name}={value}")]
        return self._said(*words, "--profile", "paper", *given)

    @property
    def disk(self) -> Path:
        """Where the sets lie before they are added."""
        return self.folder / "disk"

    def add(self, *sets: str, accept: bool = True) -> str:
        """`reid-core data add` of each of the sets on `disk`; then what `reid-core data status` prints."""
        for name in sets:
            differs = ["--accept-differences"] if accept else []
            self._said("data", "add", str(self.disk / name), "--root", str(self.data), *differs)
        return self._said("data", "status", "--root", str(self.data))

    def _said(self, *words: str) -> str:
        command = [sys.executable, "-m", "reproduction.cli", *words]
        environment = os.environ | {"REID_CORE_CACHE": str(self.folder / "cache"), "MPLBACKEND": "Agg"}
        done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout


@pytest.fixture(scope="module")
def owner(tmp_path_factory):
    """The owner of a few people of every set, after `data add`, `data status` and `make reproduce PROFILE=paper`."""
    owner = Owner(tmp_path_factory.mktemp("owner"))
    official_structure.small(owner.disk)
    owner.status = owner.add(*SETS)
    owner.said = owner.run("reproduce")
    return owner


def test_what_was_added_is_found(owner):
    found = re.findall(r"^(\S.*?)  +(?:folders|mat) +(train|query|gallery) .* differs$", owner.status, re.MULTILINE)
    assert len(found) == 3 + 3 + 3 + 1, owner.status
    assert {name for name, _ in found} == {"Market-1501", "CUHK03 labeled", "CUHK03 detected", "CUHK01"}


def test_all_rows_are_measured_on_official_data(owner):
    assert "Verdicts on official data" in owner.said
    for number in (2, 3):
        table = pd.read_csv(owner.results / f"table{number}.csv")
        assert (table["data_source"] == "official").all()
        assert (table[table["model"] != "literature"]["status"] == tables.MEASURED).all()


def test_people_are_in_the_private_folder_only(owner):
    public = [path for path in owner.results.rglob("*") if path.is_file()]
    drawings = {path.stem for path in public if path.suffix in (".png", ".svg")}
    harmless = {*(f"table{number}" for number in range(1, 5)), "figure3", "figure3_time", "figure4", "inside_hcn",
                "sensitivity"}  # fmt: skip
    assert drawings <= harmless, "known to show no person"
    assert not [path for path in public if path.suffix == ".ipynb"], "executed notebooks show people"
    official_name = re.compile(r"\d{4}_c\ds\d_|\d_\d{3}_\d_\d\d\.png|\d{7}\.png")
    for path in public:
        if path.suffix in (".csv", ".json", ".html", ".log"):
            assert not official_name.search(path.read_text()), f"{path} names images of people"
    for name in ("figure5.png", "people.png", "near_duplicates.png", "near_duplicates.csv"):
        assert (owner.private / name).exists()
    assert len(list((owner.private / "notebooks").glob("*.ipynb"))) >= 15


def test_own_data_goes_through_the_notebooks(owner):
    lines = ["image_path,person_id,camera_id,subset"]
    (owner.data / "images").mkdir()
    for number, content in enumerate(official_structure.encoded("png", seed=50, count=48)):
        person, subset = number // 4, "train" if number < 32 else ("query", "gallery")[number % 2]
        (owner.data / "images" / f"{number}.png").write_bytes(content)
        lines.append(f"images/{number}.png,{1 + person},{1 + number % 2},{subset}")
    (owner.data / "shop.csv").write_text("\n".join(lines))
    schedules = "{shop.csv: {iterations: 2}}"
    owner.run("notebook", "01", own_sets="[shop.csv]")
    for model in ("hcn", "baseline"):
        owner.run("notebook", "02", train_set="shop.csv", model=model, schedules=schedules)
    owner.run("notebook", "09", own_sets="[shop.csv]")
    owner.run("notebook", "08", rank_list_set="shop.csv")
    first, cross, rank_lists = (
        pd.read_csv(next((owner.results / "single").glob(name)))
        for name in ("01_*/table1.csv", "09_*/cross_dataset.csv", "08_*/figure5.csv")
    )
    assert "shop" in first["dataset"].tolist()
    assert {"shop.csv", "market1501", "combined"} <= set(cross.loc[cross["test_set"] == "shop.csv", "train_set"])
    assert len(rank_lists) == 8
    assert not [path for path in owner.results.rglob("*") if path.suffix == ".ipynb" or path.stem == "figure5" and
                path.suffix == ".png"], "people are shown in the private folder only"  # fmt: skip
    assert list((owner.private / "single").glob("08_*/figure5.png"))


def test_market1501_alone_gives_its_rows_and_says_why_the_others_are_not_run(tmp_path):
    owner = Owner(tmp_path)
    official_structure.market1501(owner.disk, official_structure.small_market1501_rows())
    assert "cuhk03_release/cuhk-03.mat" in owner.add(official_structure.MARKET1501), "what to place where"
    owner.run("reproduce")
    third = pd.read_csv(owner.results / "table3.csv").set_index("method")
    assert third.loc["HCN+re-rank", "status"] == tables.MEASURED
    assert "CUHK03 not found (see reid-core data status)" in third.loc["Ours+re-rank", "status"]
    second = pd.read_csv(owner.results / "table2.csv")
    assert second["status"].str.startswith("not run: CUHK03 not found").all()
    verdicts = pd.read_csv(owner.results / "claims.csv").set_index("claim")["verdict"]
    assert verdicts["hcn_beats_baseline_market1501"] != "not measured"
    assert verdicts["hcn_beats_baseline_cuhk03_labeled"] == "not measured"


@pytest.mark.skipif(os.environ.get("REID_REHEARSAL") != "full", reason="runs with REID_REHEARSAL=full")
def test_the_official_counts(tmp_path, monkeypatch):
    arrays = official_structure.protocols()
    if arrays is None:
        pytest.skip("the official arrays are not there (REID_PROTOCOLS or ../shared/protocols)")
    owner = Owner(tmp_path)
    official_structure.full(owner.disk, arrays)
    assert "differs" not in owner.add(*SETS, accept=False)
    owner.run("reproduce", literature="[]")
    first = pd.read_csv(owner.results / "table1.csv")
    *single, combined = first.to_dict("records")
    assert (pd.DataFrame(single).filter(like="difference").fillna(0) == 0).all(axis=None)
    assert combined["training identities found"] == 2488 and "2,489 without cuhk03 1202:" in combined["note"]
    assert pd.read_csv(owner.results / "table3.csv")["queries"].dropna().unique().tolist() == [3368]
    assert pd.read_csv(owner.results / "table2.csv")["queries"].dropna().unique().tolist() == [1400]
    assert (pd.read_csv(owner.results / "table2.csv")["queries_without_match"].dropna() == 0).all()
