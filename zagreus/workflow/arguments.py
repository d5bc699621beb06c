"""Parts of the configuration as arguments of a shell line."""

from __future__ import annotations

import json
import shlex
from typing import Any


def dumps(value: Any) -> str:
    """Return a part of the configuration as one argument of a shell line: quoted JSON."""
    return shlex.quote(json.dumps(value, ensure_ascii=False, sort_keys=True))
