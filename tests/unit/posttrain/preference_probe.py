"""An Axolotl plugin that writes the tokens of the preferences that the trainer has."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from axolotl.integrations.base import BasePlugin


class PreferenceProbe(BasePlugin):
    """Writes `prompt_ids`, `chosen_ids` and `rejected_ids` to the file of ZAGREUS_PROBE."""

    def add_callbacks_post_trainer(self, cfg: Any, trainer: Any) -> list[Any]:
        """Write the tokens, once the trainer has tokenized its data set."""
        keys = ("prompt_ids", "chosen_ids", "rejected_ids")
        rows = [{key: row[key] for key in keys} for row in trainer.train_dataset]
        Path(os.environ["ZAGREUS_PROBE"]).write_text(json.dumps(rows), encoding="utf-8")
        return []
