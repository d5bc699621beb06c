# What the rules of pretrain.smk ask of the configuration.
from functools import cache

from zagreus.cost import conversion_megabytes
from zagreus.plan import vocabulary
from zagreus.recipe import fingerprint, read_recipe, recipe_slice


def recipe_file(wildcards):
    """The recipe file of a base model."""
    return ancient(config["models"][wildcards.model]["pretrain"]["recipe"])


def recipe_fingerprint(file, step):
    """What stands for the part of a recipe file that decides the weights at a step."""
    return fingerprint(recipe_slice(parsed_recipe(file), step))


@cache
def parsed_recipe(file):
    """The recipe in a file, read once: parsing takes 20 ms, and every checkpoint asks for it."""
    return read_recipe(file)


def recipe_until(wildcards):
    """What of the recipe file decides the weights at a step."""
    return recipe_fingerprint(
        config["models"][wildcards.model]["pretrain"]["recipe"], int(wildcards.step)
    )


def seed_argument(wildcards):
    """The seed where the config has one of its own, as an option of the script."""
    entry = config["models"][wildcards.model]["pretrain"]
    return f"--seed {entry['seed']}" if "seed" in entry else ""


def mixture(wildcards):
    """The model's sources with their shares."""
    return config["models"][wildcards.model]["pretrain"]["mixture"]


def mixture_argument(wildcards):
    """The same, as one argument of a shell line."""
    return dumps(mixture(wildcards))


def mixture_tokens(wildcards):
    """What stands for all token shards of each source that the model reads."""
    return [token_index(source) for source in mixture(wildcards)]


def mixture_sources(wildcards):
    """The manifest of the first task of each of the model's sources."""
    return [f"<results>/sources/{source}/00000.json" for source in mixture(wildcards)]


def mixture_held_apart(wildcards):
    """The held-apart text of the same tasks."""
    return [f"<results>/sources/{source}/00000.heldout.parquet" for source in mixture(wildcards)]


def validated_sources(wildcards):
    """The model's sources whose held-apart text is looked at as the training runs: where the recipe asks for it, those whose text is here
    (of adopted tokens it is not)."""
    interval = parsed_recipe(
        config["models"][wildcards.model]["pretrain"]["recipe"]
    ).tokens.val_check_interval
    return (
        [source for source in mixture(wildcards) if source not in adopted("tokens")]
        if interval > 0
        else []
    )


def mixture_heldout_tokens(wildcards):
    """The held-apart tokens of these sources. Not in the manifest of a checkpoint: they make no difference to it."""
    return [
        f"<results>/tokens_heldout/{source}/00000.json" for source in validated_sources(wildcards)
    ]


def heldout_argument(wildcards):
    """Their folders, as an option of the script."""
    folders = [
        path(f"<results>/tokens_heldout/{source}") for source in validated_sources(wildcards)
    ]
    return f"--heldout {' '.join(folders)}" if folders else ""


def previous_checkpoint(wildcards):
    """The manifest of the checkpoint before this one; nothing for the first."""
    steps = checkpoints(wildcards.model)
    index = steps.index(wildcards.step)
    return f"<results>/pretrain/{wildcards.model}/{steps[index - 1]}.json" if index else []


def previous_argument(wildcards, input):
    """The same, as an option of the script."""
    return f"--previous {input.previous}" if input.previous else ""


def origin_entry(wildcards):
    """The `from` of the model's config, for the chain's first segment; None for the others and for a model that starts anew."""
    first = checkpoints(wildcards.model)[0] == wildcards.step
    return config["models"][wildcards.model]["pretrain"].get("from") if first else None


def origin_manifest(wildcards):
    """The manifest of the checkpoint that the chain starts from, where it is one of this configuration's models."""
    origin = origin_entry(wildcards)
    return (
        f"<results>/pretrain/{origin}/{last_checkpoint(origin)}.json"
        if isinstance(origin, str)
        else []
    )


def origin_argument(wildcards, input):
    """What the chain starts from, as an option of the script."""
    origin = origin_entry(wildcards)
    if origin is None:
        return ""
    return (
        f"--from {shlex.quote(origin['folder'])}"
        if not isinstance(origin, str)
        else f"--from {input.origin}"
    )


def conversion_memory(wildcards, attempt):
    """Megabytes that a conversion needs; where the vocabulary's size is not known yet, with Llama-3's."""
    recipe = parsed_recipe(config["models"][wildcards.model]["pretrain"]["recipe"])
    try:
        open_size = recipe.model.model_config.vocab_size <= 0
        size = (
            vocabulary(config, Path(path("<results>")))
            if open_size
            else recipe.model.padded_vocab_size
        )
    except InputError:
        size = 128256
    return conversion_megabytes(recipe, size) * attempt


def title(wildcards):
    """What the model card calls the model."""
    return shlex.quote(config["models"][wildcards.model]["title"])
