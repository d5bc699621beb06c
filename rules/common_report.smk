# What the reporting rules ask of the configuration.


def evidence():
    """Return the manifests from which everything else is found by walking back: scores and samples."""
    return scores() + samples()


def family():
    """Return the models in order, in the form that scripts/tabulate.py documents."""
    listed = []
    for name, model in (config["models"] | config["baselines"]).items():
        kind = (
            "base"
            if name in bases()
            else "posttrained" if name in posttrained() else "baseline"
        )
        listed.append(
            {
                "name": name,
                "title": model["title"],
                "kind": kind,
                "languages": model["languages"],
                "parent": model.get("from"),
                "checkpoints": checkpoints(name),
                "mixture": model["pretrain"]["mixture"] if kind == "base" else {},
            }
        )
    return listed


def source_languages():
    """Return the language of each text source."""
    return {name: source["language"] for name, source in config["sources"].items()}


def run_name():
    """Return the run's name: that of its folder of results."""
    return Path(config["pathvars"]["results"]).name
