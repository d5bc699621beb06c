"""What the configuration's `exports` ask for: pure functions, for the rules and the checks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zagreus.config.checkpoints import checkpoints
from zagreus.errors import InputError
from zagreus.export.formats import format_of

Config = Mapping[str, Any]


def exported(config: Config, last: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """Return the model, checkpoint and format of each export, in the order of the configuration.

    Args:
        config: the whole configuration.
        last: the last checkpoint of every model and baseline.
    """
    section = config.get("exports", {})
    return [
        (*_split(entry, last), form)
        for entry in section.get("models", ())
        for form in section.get("formats", ())
    ]


def export_languages(config: Config, model: str) -> list[str]:
    """Return the languages that a model's exports are measured on: its own, in order."""
    languages: list[str] = (dict(config["models"]) | dict(config["baselines"]))[model]["languages"]
    return list(languages)


def heldout_sets(config: Config, model: str) -> dict[str, str]:
    """Return, for each language of a model, the evaluation data with its held-out text.

    Raises:
        InputError: a language without evaluation data of the kind `heldout`.
    """
    by_language: dict[str, str] = {}
    for name, entry in config["evaluation_data"].items():
        if entry["kind"] == "heldout":
            by_language.setdefault(entry["language"], name)
    languages_needed = export_languages(config, model)
    missing = [language for language in languages_needed if language not in by_language]
    if missing:
        raise InputError(
            f"exports.models: {model} speaks {', '.join(missing)}, expected evaluation_data of "
            "the kind heldout in this language"
        )
    return {language: by_language[language] for language in languages_needed}


def check_exports(config: Config, last: Mapping[str, str]) -> None:
    """Check the section `exports` against the rest of the configuration.

    Raises:
        InputError: an unknown model or checkpoint, or a language without held-out text.
    """
    section = config.get("exports", {})
    for name in section.get("formats", ()):
        format_of(name)
    for name in section.get("limits", {}):
        if name not in section["formats"]:
            raise InputError(f"exports.limits: '{name}' is not among exports.formats")
    for entry in section.get("models", ()):
        model, checkpoint = _split(entry, last)
        if model not in last:
            raise InputError(
                f"exports.models: no model is called '{model}', expected one of {', '.join(last)}"
            )
        known = checkpoints(config["models"].get(model) or config["baselines"][model])
        if checkpoint not in known:
            raise InputError(
                f"exports.models: '{model}' has no checkpoint '{checkpoint}', expected one of "
                f"{', '.join(known)}"
            )
        heldout_sets(config, model)


def _split(entry: str, last: Mapping[str, str]) -> tuple[str, str]:
    """Return model and checkpoint of `MODEL` (its last one) or `MODEL/CHECKPOINT`."""
    model, slash, checkpoint = entry.partition("/")
    return model, checkpoint if slash else last.get(model, "")
