"""Which examples come before a question."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lm_eval.api.task import ConfigurableTask


class SubjectTask(ConfigurableTask):
    """A task whose questions have a `subject`, each asked after examples of its own.

    What MMLU's 57 tasks of one subject do, as one.
    """

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.examples: dict[str, list[Mapping[str, Any]]] = {}
        for example in self.fewshot_docs() or ():
            self.examples.setdefault(example["subject"], []).append(example)

    def fewshot_context(self, doc: Mapping[str, Any], *positional: Any, **arguments: Any) -> Any:
        """Return the prompt, its examples drawn from the question's subject."""
        self.sampler.replace_df(self.examples.get(doc["subject"], []))
        return super().fewshot_context(doc, *positional, **arguments)
