# What the reporting rules ask of the configuration.

from pathlib import Path


def evidence():
    """Return the manifests from which everything else is found by walking back: scores, samples, every checkpoint, overlaps."""
    named = [*config["models"], *baselines()]
    return (
        scores()
        + samples()
        + exports()
        + [
            model_manifest(model, checkpoint)
            for model in named
            for checkpoint in checkpoints(model)
        ]
        + contaminations()
    )


def family():
    """Return the models in order, in the form that scripts/tabulate.py documents."""
    listed = []
    for name, model in (config["models"] | config["baselines"]).items():
        kind = "base" if name in bases() else "posttrained" if name in posttrained() else "baseline"
        listed.append(
            {
                "name": name,
                "title": model["title"],
                "kind": kind,
                "languages": model["languages"],
                "parent": made_from(model),
                "checkpoints": checkpoints(name),
                "mixture": model["pretrain"]["mixture"] if kind == "base" else {},
            }
        )
    return listed


def continued(model):
    """Return the name of the model that a base model continues, None where it continues none of this configuration."""
    origin = model.get("pretrain", {}).get("from")
    return origin if isinstance(origin, str) else None


def task_data():
    """Return the evaluation data set of each task."""
    return {
        task["name"]: task["data"]
        for suite in config["evaluations"].values()
        for task in suite["tasks"]
    }


def run_plan():
    """Return what was planned, in the form that scripts/tabulate.py documents: not the cluster, on which nothing that is made depends."""
    pretrain = {name: config["models"][name]["pretrain"] for name in bases()}
    plan = config.get("plan", {})
    sources = {
        name: {key: entry[key] for key in ("language", "tasks")}
        for name, entry in config["sources"].items()
    }
    reckoned = {
        "models": {name: {"pretrain": entry} for name, entry in pretrain.items()},
        "sources": sources,
    }
    reckoned |= {
        "tokenizer": config["tokenizer"],
        "plan": {key: plan[key] for key in ("peak_flops", "mfu", "prices") if key in plan},
    }
    models = {
        name: {"recipe": entry["recipe"], "steps": entry["checkpoints"][-1]}
        for name, entry in pretrain.items()
    }
    return {key: plan[key] for key in ("peak_flops", "mfu") if key in plan} | {
        "models": models,
        "config": reckoned,
    }


def run_name():
    """Return the run's name: that of its folder of results."""
    return Path(config["pathvars"]["results"]).name
