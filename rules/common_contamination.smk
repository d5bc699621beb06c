# What the rules of contamination.smk ask of the configuration: which text is read, and which items could be in it.
from functools import cache

# Tasks of a source that a job reads.
PART = 16


def learners(name):
    """Return the models that are trained on a source or on a data set of conversations, and those that are made from such a model."""
    found = []
    for model, entry in config["models"].items():
        mine = (
            set(entry["pretrain"]["mixture"])
            if "pretrain" in entry
            else {stage["data"] for stage in entry["posttrain"]}
        )
        if name in mine:
            found.append(model)
    for model in found:
        # Made from it: the list grows while it is read.
        found += [
            other
            for other, entry in config["models"].items()
            if other not in found and made_from(entry) == model
        ]
    return found


def made_from(model):
    """Return the name of the model that a model begins with, None for one that begins with nothing or with weights from elsewhere."""
    return model.get("from") or continued(model)


@cache
def contaminable(name):
    """Return the evaluation data that is looked for in a source, or in a data set of conversations, by language: what the models trained on
    it are asked and could stand in it. Conversations have many languages, and little text: one job looks for `all`.
    """
    taken = {
        task["data"]
        for model in learners(name)
        for suite in config["evaluations"]
        for task in suite_tasks(model, suite)
    }
    found = {}
    for data, entry in config["evaluation_data"].items():
        if data in taken and (
            name not in config["sources"]
            or config["sources"][name]["language"] in ("code", *spoken(entry))
        ):
            found.setdefault(entry["language"] if name in config["sources"] else "all", []).append(
                data
            )
    return found


def spoken(entry):
    """Return the languages of an evaluation data set: its own, and those of the text that it is made from (of translations, two)."""
    return {
        entry["language"],
        *(config["sources"][source]["language"] for source in entry.get("sources", ())),
    }


def contamination_texts(wildcards, suffix):
    """Return the files of a suffix that a job reads: tasks of a source, or a data set of conversations."""
    folder, _, name = wildcards.text.partition("/")
    if not name.isdigit():
        return [f"<results>/chat/{name}.{'jsonl' if suffix == 'parquet' else suffix}"]
    first = int(name) * PART
    return [
        clean_text(folder, f"{task:05d}", suffix)
        for task in range(first, min(first + PART, config["sources"][folder]["tasks"]))
    ]


def contamination_manifests(wildcards):
    """Return the manifests of the text that is read."""
    return contamination_texts(wildcards, "json")


def contamination_text(wildcards):
    """Return the files of the text itself."""
    return contamination_texts(wildcards, "parquet")


def contamination_items(wildcards):
    """Return the manifests of the items that are looked for."""
    folder, _, name = wildcards.text.partition("/")
    found = contaminable(folder if name.isdigit() else name)
    return [f"<results>/evaluation_data/{data}.json" for data in found[wildcards.language]]


def contaminations():
    """Return the manifests of all that is read: what some model is trained on that is asked something. Adopted shards have no text here."""
    texts = {dataset: [f"chat/{dataset}"] for dataset in config["chat"]}
    for source, entry in config["sources"].items():
        if source not in adopted("tokens"):
            texts[source] = [f"{source}/{part:05d}" for part in range(-(-entry["tasks"] // PART))]
    return [
        f"<results>/contamination/{text}/{language}.json"
        for name, parts in texts.items()
        for language in contaminable(name)
        for text in parts
    ]
