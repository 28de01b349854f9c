# Runs the steps of a plan, each once those before it have ended. `reid-core reproduce` writes the plan: which steps are
# out of date is decided there (reproduction/runner/staleness.py), so that every step given here is run.
# Every step takes all cores: trainings run one at a time, so that Table 4 compares their times.

import json
import os
from pathlib import Path

STEPS = json.loads(Path(os.environ["REID_CORE_PLAN"]).read_text(encoding="utf-8"))


def done(name):
    return f"{name}.done"


rule all:
    input:
        [done(step["name"]) for step in STEPS],


for number, step in enumerate(STEPS):
    Path(f"{step['name']}.sh").write_text(step["command"], encoding="utf-8")  # Snakemake would fill in its {braces}

    rule:
        name:
            step["name"]
        input:
            [done(name) for name in step["after"]],
        output:
            touch(done(step["name"])),
        priority: len(STEPS) - number  # in the order of the plan
        threads: workflow.cores
        shell:
            "bash {rule}.sh"
