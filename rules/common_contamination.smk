# What the rules of contamination.smk ask of the configuration: which text is read, and which items could be in it.


def learners(name):
    """Return the models that are trained on a source or on a data set of conversations, and those that are made from such a model."""
    found = []
    for model, entry in config["models"].items():
        mine = set(entry["pretrain"]["mixture"]) if "pretrain" in entry else {stage["data"] for stage in entry["posttrain"]}
        if name in mine:
            found.append(model)
    for model in found:
        # Made from it: the list grows while it is read.
        found += [other for other, entry in config["models"].items() if other not in found and made_from(entry) == model]
    return found


def made_from(model):
    """Return the name of the model that a model begins with, None for one that begins with nothing or with weights from elsewhere."""
    return model.get("from") or continued(model)


def contaminable(name):
    """Return the evaluation data that the models trained on it are asked."""
    taken = {task["data"] for model in learners(name) for suite in config["evaluations"] for task in suite_tasks(model, suite)}
    return [data for data in config["evaluation_data"] if data in taken]


def contamination_manifest(wildcards):
    """Return the manifest of the text that is read."""
    folder, _, name = wildcards.text.partition("/")
    return f"<results>/chat/{name}.json" if folder == "chat" and not name.isdigit() else clean_text(folder, name, "json")


def contamination_text(wildcards):
    """Return the file of the text itself."""
    folder, _, name = wildcards.text.partition("/")
    return f"<results>/chat/{name}.jsonl" if folder == "chat" and not name.isdigit() else clean_text(folder, name, "parquet")


def contamination_items(wildcards):
    """Return the manifests of the items that are looked for."""
    folder, _, name = wildcards.text.partition("/")
    return [f"<results>/evaluation_data/{data}.json" for data in contaminable(folder if name.isdigit() else name)]


def contaminations():
    """Return the manifests of all that is read: what some model is trained on that is asked something. Adopted shards have no text here."""
    sources = [source for source in config["sources"] if contaminable(source) and f"tokens/{source}" not in config.get("adopt", {})]
    texts = [f"{source}/{task:05d}" for source in sources for task in range(config["sources"][source]["tasks"])]
    texts += [f"chat/{dataset}" for dataset in config["chat"] if contaminable(dataset)]
    return [f"<results>/contamination/{text}.json" for text in texts]
