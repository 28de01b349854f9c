# Runs the steps of a plan, each once those before it have ended. `reid-core reproduce` writes the plan and a file with
# each step's command: which steps are out of date is decided there (reproduction/runner/staleness.py), so that every
# step given here is run. A step takes all cores: trainings run one at a time, so that Table 4 compares their times. Where
# the plan says what a step takes, others run beside it: scores and drawings of small data (reproduction/runner/steps.py),
# or every step on a cluster or with several GPUs (reproduction/runner/cluster.py).

import json
import os
from pathlib import Path

STEPS = json.loads(Path(os.environ["REID_CORE_PLAN"]).read_text(encoding="utf-8"))


envvars:
    "REID_CORE_PLAN",


onstart:
    from reproduction.runner import preflight, warm

    small = [step for step in STEPS if step["command"].startswith("OPENBLAS_NUM_THREADS=1 ") and "resources" not in step]
    if len(STEPS) > 2 and small and not preflight.cards():
        os.environ[warm.FOLDER] = os.getcwd()
        warm.serve(OPENBLAS_NUM_THREADS="1")


def done(name):
    return f"{name}.done"


rule all:
    localrule: True
    input:
        [done(step["name"]) for step in STEPS],


for number, step in enumerate(STEPS):

    rule:
        name:
            step["name"]
        localrule: step.get("local", False)
        input:
            [done(name) for name in step["after"]],
        output:
            touch(done(step["name"])),
        priority: len(STEPS) - number  # in the order of the plan
        threads: step["threads"] if "threads" in step else workflow.cores
        resources:
            **step.get("resources", {}),
        shell:
            "bash {rule}.sh"
