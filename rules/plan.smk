# What a run needs, before it runs: `bin/zagreus plan`. On the host, so that nothing has to be there yet.
import os
import sys

from zagreus.plan import job_plan, source_plan, totals, training_plan


def plan_files():
    """The files of the rules that no formula covers, by rule."""
    files = {
        "convert": [model_manifest(name, step) for name in bases() for step in checkpoints(name)],
        "posttrain": [model_manifest(name, stage) for name in posttrained() for stage in checkpoints(name)],
        "evaluate": scores(),
        "sample": samples(),
    }
    return {rule: [path(file) for file in names] for rule, names in files.items()}


rule plan:
    localrule: True
    params:
        python=python("host"),
        config=dumps(config),
        files=dumps(plan_files()),
        results=path("<results>"),
        benchmarks=path("<benchmarks>"),
    shell:
        "{params.python} scripts/plan.py --config {params.config} --files {params.files} --results {params.results}"
        " --benchmarks {params.benchmarks}"


# A limit of the config holds for all that the configuration still lacks, whatever the target.
onstart:
    if "plan" not in sys.argv and any(key.startswith("max_") for key in config.get("plan", {})):
        results = Path(path("<results>"))
        planned = totals(
            config, source_plan(config, results), training_plan(config, results), job_plan(plan_files(), Path(path("<benchmarks>")))
        )
        over = planned.exceeded(config)
        if over and os.environ.get("ZAGREUS_OVER_BUDGET") != "1":
            raise WorkflowError(f"{over}; with ZAGREUS_OVER_BUDGET=1 in the environment it starts all the same")
