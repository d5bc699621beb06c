# What the rules of export.smk ask of the configuration.

from zagreus.export import plan as export_plan


def exports():
    """Return the manifests of all exports."""
    listed = export_plan.exported(config, export_plan.last_checkpoints(config))
    return [
        f"<results>/exports/{model}/{checkpoint}/{form}/manifest.json"
        for model, checkpoint, form in listed
    ]


def export_texts(wildcards):
    """Return the held-out text of each of a model's languages."""
    found = export_plan.heldout_sets(config, wildcards.model)
    return [f"<results>/evaluation_data/{name}.json" for name in found.values()]


def export_texts_argument(wildcards):
    found = export_plan.heldout_sets(config, wildcards.model)
    return dumps(
        {
            language: path(f"<results>/evaluation_data/{name}.json")
            for language, name in found.items()
        }
    )


def export_limits(wildcards):
    return dumps(config["exports"].get("limits", {}).get(wildcards.format, {}))
