# Which notebook needs which file. `make reproduce` runs this through `reid-core reproduce`, which checks the
# profile first; run alone: snakemake --cores all --config profile=smoke
#
# A notebook runs again when one of its parameters, its source, its inputs or (except for the trainings, whose
# folders know their own recipe and data) the code of reid_core has changed. Every step takes all cores: trainings
# run one at a time, so that Table 4 compares their times.

import hashlib
import json
import shlex

from reproduction import experiment, paper, sidecar
from reproduction.runner import notebooks, profiles

PROFILE = config.get("profile", "smoke")
OVERRIDES = config.get("overrides", [])
SETTINGS = profiles.load(PROFILE, OVERRIDES, recipes=False)
RESULTS = SETTINGS["results_root"]
OFFICIAL = SETTINGS["render_sizes"] == "none"
EXECUTED = experiment.executed_notebooks(SETTINGS)
NOT_RUN = experiment.Experiment.of(SETTINGS).not_run if OFFICIAL else {}
TRAININGS = [training for training in experiment.trainings() if training[1] not in NOT_RUN]
RUNS = [experiment.run_name(*training, seed) for training in TRAININGS for seed in SETTINGS["seeds"]]
SOURCES = sorted(p for p in sidecar.REPOSITORY.glob("re*/**/*") if p.suffix in {".py", ".j2", ".css"})
CODE = hashlib.sha256(b"".join(p.read_bytes() for p in SOURCES)).hexdigest()


def settings(name):
    return json.dumps(profiles.select(SETTINGS, name), sort_keys=True)


def call(action):
    """Shell command of a step, its braces doubled because Snakemake fills in what stands in single ones."""
    given = "".join(f" -p {shlex.quote(override)}" for override in OVERRIDES)
    text = f"python -m reproduction.cli {action} --profile {shlex.quote(PROFILE)}{given}"
    return text.replace("{", "{{").replace("}", "}}")


def command(notebook, extra=""):
    return f"{call('notebook')} {notebook}{extra} --output {{output.executed:q}}"


def results(*names):
    return [f"{RESULTS}/{name}" for name in names]


def executed(name):
    return f"{EXECUTED}/{name}.ipynb"


rule all:
    input:
        f"{RESULTS}/report.html",


rule datasets:
    input:
        notebook="notebooks/01_datasets.ipynb",
    params:
        settings=settings("01_datasets"),
    output:
        results("table1.csv", "table1.json", "table1_subsets.csv", "table1_subsets.json", "near_duplicate_counts.csv"),
        executed=executed("01_datasets"),
    threads: workflow.cores
    shell:
        command("01_datasets")


rule train:
    input:
        results("table1.csv"),
        notebook="notebooks/02_train.ipynb",
    params:
        settings=settings("02_train"),
    output:
        executed=executed("02_train-{model}-{train_set}-seed{seed}"),
    threads: workflow.cores
    shell:
        command("02_train", " -p model={wildcards.model} -p train_set={wildcards.train_set} -p seed={wildcards.seed}")


ANALYSES = {
    "03_table2_cuhk03": (["table2.csv", "table2_seeds.csv"], ["table1.csv"]),
    "04_table3_market1501": (["table3.csv", "table3_seeds.csv"], ["table1.csv"]),
    "05_table4_training_time": (["table4.csv", "table4_forms.csv"], []),
    "06_figure3_loss_curves": (
        ["figure3.png", "figure3.svg", "figure3_time.png", "convergence.csv", "convergence_time.csv",
         "loss_levels.csv", "loss_curves.csv"],
        ["table4_forms.csv"],
    ),
    "07_figure4_ap_and_cmc": (["figure4.csv", "figure4.png", "figure4.svg"], []),
    "08_figure5_rank_lists": (["figure5.csv"], ["table1.csv"]),
    "09_claims": (
        ["claims.csv", "cross_dataset.csv", "near_duplicate_scores.csv"],
        ["table1.csv", "table2.csv", "table3.csv", "table4.csv", "table4_forms.csv", "convergence.csv",
         "figure4.csv", "sensitivity.csv"],
    ),
    "10_sensitivity": (["sensitivity.csv", "sensitivity.png", "sensitivity.svg"], ["table1.csv"]),
    "11_inside_hcn": (["inside_hcn.csv", "inside_hcn.png", "inside_hcn.svg"], ["table1.csv"]),
}
if {SETTINGS["rank_list_set"], paper.COMBINED} & set(NOT_RUN):  # Figure 5 compares the two models on one set
    del ANALYSES["08_figure5_rank_lists"]
if set(paper.SETS) <= set(NOT_RUN):  # nothing to retrieve from
    del ANALYSES["11_inside_hcn"]

for name, (made, needed) in ANALYSES.items():

    rule:
        name:
            name
        input:
            results(*needed),
            [] if name.startswith("07") else [executed(f"02_train-{run}") for run in RUNS],
            notebook=f"notebooks/{name}.ipynb",
        params:
            settings=settings(name),
            code=CODE,
        output:
            results(*made),
            executed=executed(name),
        priority: 100 - int(name[:2])  # in the order of their numbers
        threads: workflow.cores
        shell:
            command("{rule}")


rule report:
    input:
        results(*[made for files, _ in ANALYSES.values() for made in files]),
        [executed(name) for name in ANALYSES],
    params:
        code=CODE,
    output:
        f"{RESULTS}/report.html",
    threads: workflow.cores
    shell:
        call("report")
