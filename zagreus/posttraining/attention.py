"""Which attention a recipe asks for, and which one the image can give it.

The standard library alone: the host asks with the packages of a lock file, the job with those that
are installed. Both get the same answer, so that no job waits for a GPU to learn it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from zagreus.errors import InputError

# Axolotl's older spelling: a key for each implementation.
OLD = {
    "flash_attention": "flash_attention_2",
    "xformers_attention": "xformers",
    "sage_attention": "sage",
    "flex_attention": "flex_attention",
    "sdp_attention": "sdpa",
    "eager_attention": "eager",
}
# The package (as the registry spells it) that an implementation needs. Those of the kernels hub
# need a network, which a job does not have.
PACKAGES = {
    "flash_attention_2": "flash-attn",
    "flash_attention_3": "flash-attn-3",
    "flash_attention_4": "flash-attn-4",
    "xformers": "xformers",
    "sage": "sageattention",
}


def configured(recipe: Mapping[str, Any]) -> tuple[str, str]:
    """Return (key, implementation) of a recipe's attention; two empty strings where it has none."""
    if recipe.get("attn_implementation"):
        return "attn_implementation", str(recipe["attn_implementation"])
    for key, name in OLD.items():
        if recipe.get(key):
            return key, name
    return "", ""


def available(
    recipe: Mapping[str, Any], packages: Collection[str], where: str
) -> tuple[dict[str, Any], str]:
    """Return the recipe with an attention that is there, and a note where that is another one.

    FlashAttention and sdpa compute the same sums; both keep packed rows apart. Other
    implementations do not become another one in silence.

    Args:
        recipe: in Axolotl's schema; not changed.
        packages: names of the installed, or of the locked packages.
        where: the recipe's name, for messages.

    Raises:
        InputError: an implementation whose package is missing.
    """
    key, name = configured(recipe)
    hub = "/" in name
    package = "kernels" if hub else PACKAGES.get(name)
    if package is None or (package in packages and not hub):
        return dict(recipe), ""
    if not name.removeprefix("kernels-community/").replace("-", "_").startswith(
        "flash_attn"
    ) and not name.startswith("flash_attention"):
        raise InputError(
            f"{where}: {key}: {recipe[key]} needs the package {package}, which the image does not "
            "have; attn_implementation: sdpa needs none"
        )
    kept = {other: value for other, value in recipe.items() if other != key}
    note = (
        f"attention: sdpa; published: {key if key in OLD else name}; packed rows are kept "
        "apart by positions"
    )
    return {**kept, "attn_implementation": "sdpa"}, note
