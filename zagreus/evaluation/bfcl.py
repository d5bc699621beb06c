"""Scores of BFCL v4 by the package's own AST checker.

The checker is imported from the wheel that the items were read from, as a zip. The package's
dependencies (clients of thirty services, numpy 1) are not needed for that, but for one module: the
table of the models on the leaderboard. The checker asks that table whether a model writes `_` for
the `.` in names; a table with our one entry takes its place.
"""

from __future__ import annotations

import importlib
import json
import sys
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from zagreus.errors import InputError
from zagreus.evaluation.agentic import tool_calls
from zagreus.evaluation.tool_calls import answer_text
from zagreus.manifest import read_manifest, sha256_file

CHECKER = "bfcl_eval.eval_checker.ast_eval.ast_checker"
_MODELS = "bfcl_eval.constants.model_config"
_MODEL = "local"
Calls = list[dict[str, dict[str, Any]]]


def open_checker(data: Path) -> None:
    """Make the checker importable from the wheel that a data set was read from.

    Args:
        data: the data set's manifest.

    Raises:
        InputError: the wheel is not there, is another one, or holds no checker.
    """
    wheels = [item for item in read_manifest(data)["inputs"] if item["path"].endswith(".whl")]
    if len(wheels) != 1:
        raise InputError(f"{data}: made from {len(wheels)} wheels, expected one, of bfcl-eval")
    wheel, expected = Path(wheels[0]["path"]), wheels[0]["sha256"]
    if not wheel.is_file():
        raise InputError(f"{wheel}: no such file, expected the wheel that {data} names")
    digest = sha256_file(wheel)
    if digest != expected:
        raise InputError(
            f"{wheel}: sha256 {digest[:12]}..., expected {expected[:12]}... as {data} says"
        )
    import_checker(wheel)


def import_checker(wheel: Path) -> types.ModuleType:
    """Import the checker from a wheel of bfcl-eval.

    Raises:
        InputError: the wheel holds no checker.
    """
    models = types.ModuleType(_MODELS)
    models.__dict__["MODEL_CONFIG_MAPPING"] = {
        _MODEL: types.SimpleNamespace(underscore_to_dot=False)
    }
    sys.modules[_MODELS] = models
    if str(wheel) not in sys.path:
        sys.path.insert(0, str(wheel))
    try:
        return importlib.import_module(CHECKER)
    except ImportError as error:
        raise InputError(f"{wheel}: no AST checker of BFCL ({error})") from None


def bfcl_results(document: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """Return whether an answer is correct, and whether it ends (`process_results`).

    Calls are read as those of the cases of tool use; a block that is no JSON is no call.
    """
    text, ended = answer_text(results)
    calls: Calls = [{call.name: dict(call.arguments)} for call in tool_calls(text, names=False)]
    functions, gold = json.loads(document["functions"]), json.loads(document["gold"])
    correct = is_correct(document["category"], functions, gold, calls)
    return {"correct": float(correct), "ends_turn": float(ended)}


def is_correct(
    category: str, functions: Sequence[Mapping[str, Any]], gold: Sequence[Any], calls: Calls
) -> bool:
    """Return whether calls are right, by BFCL's rule of their category.

    Args:
        category: BFCL's name (`simple_python`, `live_irrelevance`, ...).
        functions: that may be called, as in the package.
        gold: possible answers: for each call the values that each argument may have.
        calls: `{name: arguments}`.
    """
    if category.endswith("irrelevance"):
        return not calls
    if category.endswith("relevance"):
        return bool(calls)
    checker = sys.modules[CHECKER]
    language = sys.modules["bfcl_eval.constants.enums"].Language.PYTHON
    judged = checker.ast_checker(functions, calls, gold, language, category, _MODEL)
    return bool(judged["valid"])
