# What the rules of pretrain.smk ask of the configuration.

from zagreus.recipe import fingerprint, read_recipe, recipe_slice


def pretrain_entry(wildcards):
    """The model's entry, as one argument of a shell line."""
    return dumps(config["models"][wildcards.model]["pretrain"])


def recipe_file(wildcards):
    """The recipe file of a base model."""
    return config["models"][wildcards.model]["pretrain"]["recipe"]


def mixture(wildcards):
    """The model's sources with their shares."""
    return config["models"][wildcards.model]["pretrain"]["mixture"]


def mixture_argument(wildcards):
    """The same, as one argument of a shell line."""
    return dumps(mixture(wildcards))


def mixture_tokens(wildcards):
    """Manifests of all token shards that the model reads."""
    return [
        manifest
        for source in mixture(wildcards)
        for manifest in token_manifests(source)
    ]


def mixture_sources(wildcards):
    """The manifest of the first task of each of the model's sources."""
    return [f"<results>/sources/{source}/00000.json" for source in mixture(wildcards)]


def mixture_held_apart(wildcards):
    """The held-apart text of the same tasks."""
    return [
        f"<results>/sources/{source}/00000.heldout.parquet"
        for source in mixture(wildcards)
    ]


def previous_checkpoint(wildcards):
    """The manifest of the checkpoint before this one; nothing for the first."""
    steps = checkpoints(wildcards.model)
    index = steps.index(wildcards.step)
    return (
        f"<results>/pretrain/{wildcards.model}/{steps[index - 1]}.json" if index else []
    )


def previous_argument(wildcards, input):
    """The same, as an option of the script."""
    return f"--previous {input.previous}" if input.previous else ""


def recipe_until(wildcards):
    """What of recipe file and mixture decides the weights at a step: a later part of the recipe may change without making it again."""
    entry = config["models"][wildcards.model]["pretrain"]
    until = recipe_slice(read_recipe(entry["recipe"]), int(wildcards.step))
    return fingerprint([until, entry["mixture"], entry.get("seed")])


def title(wildcards):
    """What the model card calls the model."""
    return shlex.quote(config["models"][wildcards.model]["title"])


def ranks(wildcards):
    """Processes of a training job on one machine."""
    return config["cluster"]["ranks_per_node"]
