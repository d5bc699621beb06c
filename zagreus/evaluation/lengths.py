"""How long an answer may be, where the items of a task differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.task import ConfigurableTask


class LengthTask(ConfigurableTask):
    """A generating task whose items name the most new tokens of their answers (`max_tokens`)."""

    def construct_requests(self, doc: Mapping[str, Any], ctx: Any, **arguments: Any) -> Instance:
        """Return the request of an item, with the item's own length in place of the task's."""
        request = super().construct_requests(doc, ctx, **arguments)
        context, options = request.arguments
        request.arguments = (context, {**options, "max_gen_toks": doc["max_tokens"]})
        return request
