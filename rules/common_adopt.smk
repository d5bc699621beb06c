# What the rules of adopt.smk ask of the configuration: artifacts made elsewhere, by their places beneath the results folder.
import re
import shlex


def adopted_places(stage):
    """Return a pattern of exactly these places; without any, one that nothing matches."""
    return "|".join(map(re.escape, adopted(stage))) or "(?!)"


def adopted_manifests():
    """Return the manifests of all that is adopted."""
    tokens = [manifest for source in adopted("tokens") for manifest in token_manifests(source)]
    return (
        tokens
        + [f"<results>/pretrain/{place}.json" for place in adopted("pretrain")]
        + [f"<results>/models/{place}/manifest.json" for place in adopted("models")]
    )


def adopted_tokens_options(wildcards):
    """Return where a source's shards are from and what they must be, as options of scripts/adopt_tokens.py."""
    entry, source = adopted("tokens")[wildcards.source], config["sources"][wildcards.source]
    options = [
        "--folder",
        entry["folder"],
        "--origin",
        entry["origin"],
        "--language",
        source["language"],
        "--tasks",
        str(source["tasks"]),
    ]
    return shlex.join(options + (["--end-token"] if config["shards"]["end_token"] else []))


def adopted_checkpoint_options(wildcards):
    """Return where a checkpoint is from and what it stands for, as options of scripts/adopt_checkpoint.py."""
    entry, (model, step) = adopted("pretrain")[wildcards.place], wildcards.place.split("/")
    options = [
        "--folder",
        entry["folder"],
        "--origin",
        entry["origin"],
        "--model",
        model,
        "--step",
        step,
    ]
    pretrain = config["models"][model]["pretrain"]
    return shlex.join(options + (["--seed", str(pretrain["seed"])] if "seed" in pretrain else []))


def adopted_model(wildcards):
    """Return the name of the model whose checkpoint is adopted."""
    model, _ = wildcards.place.split("/")
    return model


def adopted_recipe(wildcards):
    """Return that model's recipe file."""
    return ancient(config["models"][adopted_model(wildcards)]["pretrain"]["recipe"])


def adopted_recipe_until(wildcards):
    """Return what of the recipe file decides the weights at the step that is adopted."""
    model, step = wildcards.place.split("/")
    return recipe_fingerprint(config["models"][model]["pretrain"]["recipe"], int(step))


def adopted_mixture(wildcards):
    """Return that model's mixture, as one argument of a shell line."""
    return dumps(config["models"][adopted_model(wildcards)]["pretrain"]["mixture"])


def adopted_checkpoints(wildcards):
    """Return the folder of that model's checkpoints."""
    return path(f"<results>/pretrain/{adopted_model(wildcards)}/checkpoints")


def adopted_model_options(wildcards):
    """Return where a model is from and whose place it takes, as options of scripts/adopt_model.py."""
    model, checkpoint = wildcards.place.split("/")
    title = config["models"][model]["title"]
    options = ["--model", model, "--checkpoint", checkpoint, "--title", title]
    return f"--entry {dumps(adopted('models')[wildcards.place])} {shlex.join(options)}"
