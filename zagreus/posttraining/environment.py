"""The environment that Axolotl runs in: set before torch, transformers or axolotl are imported.

The variables and their reasons are in zagreus/launch/variables.py.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from zagreus.launch.variables import WITHOUT_GPU, environment_of
from zagreus.posttraining.capabilities import has_gpu


def prepare(cache: Path, further: Mapping[str, str]) -> None:
    """Set this process's environment, and its children's.

    Args:
        cache: folder for the Hugging Face libraries' caches; one of its own for each content, for
            `datasets` tells files apart by time, not by content.
        further: further variables.
    """
    os.environ.update(environment_of("posttrain", os.environ))
    if not has_gpu():
        os.environ.update({variable.name: variable.value for variable in WITHOUT_GPU})
    os.environ.update({**further, "HF_HOME": str(cache.absolute())})
