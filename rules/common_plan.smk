# What the plan asks of the configuration, and the limits that it holds.
import sys

from zagreus.plan import job_plan, source_plan, training_plan
from zagreus.totals import totals


def plan_files():
    """The files of the rules that no formula covers, by rule."""
    files = {
        "convert": [model_manifest(name, step) for name in bases() for step in checkpoints(name)],
        "posttrain": [model_manifest(name, stage) for name in posttrained() for stage in checkpoints(name)],
        "evaluate": scores(),
        "sample": samples(),
    }
    return {rule: [path(file) for file in names] for rule, names in files.items()}


def check_budget():
    """Stop a run whose configuration still needs more than its limits, whatever the target."""
    if config.get("over_budget") or "plan" in sys.argv or not any(key.startswith("max_") for key in config.get("plan", {})):
        return
    results = Path(path("<results>"))
    jobs = job_plan(config, plan_files(), Path(path("<benchmarks>")))
    over = totals(config, source_plan(config, results), training_plan(config, results), jobs).exceeded(config)
    if over:
        sys.exit(f"error: {over}; with --config over_budget=True it starts all the same")
