# What the rules ask of the configuration.

import json
import shlex


include: "common_cluster.smk"


def path(pattern):
    """Return a path with its <pathvars> filled in, for the places where Snakemake does not do it: params and container."""
    for name, folder in config["pathvars"].items():
        pattern = pattern.replace(f"<{name}>", folder)
    return pattern


def dumps(value):
    """Return a part of the configuration as one argument of a shell line."""
    return shlex.quote(json.dumps(value, ensure_ascii=False, sort_keys=True))


def bases():
    """Return the names of the base models."""
    return [name for name, model in config["models"].items() if "pretrain" in model]


def posttrained():
    """Return the names of the post-trained models."""
    return [name for name, model in config["models"].items() if "posttrain" in model]


def baselines():
    """Return the names of the models made elsewhere."""
    return list(config["baselines"])


def languages(model):
    """Return the languages that a model is evaluated on."""
    return (config["models"] | config["baselines"])[model]["languages"]


def checkpoints(model):
    """Return a model's checkpoints in order: steps of a base model, stages of a post-trained one, `release` of a baseline."""
    if model in config["baselines"]:
        return ["release"]
    if model in bases():
        return [str(step) for step in config["models"][model]["pretrain"]["checkpoints"]]
    return [stage["stage"] for stage in config["models"][model]["posttrain"]]


def last_checkpoint(model):
    """Return the checkpoint that is the finished model."""
    return checkpoints(model)[-1]


def model_manifest(model, checkpoint):
    """Return the manifest of a checkpoint in Hugging Face format."""
    return f"<results>/models/{model}/{checkpoint}/manifest.json"


def token_manifests(source):
    """Return the manifests of a source's token shards."""
    return [
        f"<results>/tokens/{source}/{task:05d}.json"
        for task in range(config["sources"][source]["tasks"])
    ]


def token_index(source):
    """Return the manifest that stands for all of a source's token shards."""
    return f"<results>/tokens/{source}.json"


def adopted(stage):
    """Return the entries of a stage (tokens, pretrain, models), by what follows it in their places."""
    return {
        node.removeprefix(f"{stage}/"): entry
        for node, entry in config.get("adopt", {}).items()
        if node.startswith(f"{stage}/")
    }
