"""Programs with one rule changed: do the tests of a grader notice each of them?"""

from __future__ import annotations

import ast
import copy
import sys
import types
from collections.abc import Iterator
from pathlib import Path

SWAPPED = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.LtE: ast.Gt,
    ast.GtE: ast.Gt,
    ast.And: ast.Or,
    ast.Or: ast.And,
}
NAMES = {"any": "all", "all": "any"}
CHANGED = (ast.Compare, ast.BoolOp, ast.Name, ast.Constant, ast.If, ast.IfExp, ast.UnaryOp)


def mutants(path: Path, functions: set[str]) -> Iterator[tuple[str, types.ModuleType]]:
    """Yield (what is changed, the module) for each change of one place in some functions.

    A comparison is turned round, `and` is `or`, `not` is left out, `any` is `all`, a text is
    longer, a number is one more, a condition always holds.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for index, whole in enumerate(tree.body):
        if not isinstance(whole, ast.FunctionDef) or whole.name not in functions:
            continue
        for number, node in enumerate(ast.walk(whole)):
            if not isinstance(node, CHANGED):
                continue
            function = copy.deepcopy(whole)
            what = _change(function, list(ast.walk(function))[number])
            if what:
                body = [*tree.body[:index], function, *tree.body[index + 1 :]]
                module = ast.Module(body=body, type_ignores=[])
                yield f"{function.name}: {what}", _module(module, path)


def _change(function: ast.FunctionDef, node: ast.AST) -> str | None:
    """Change a node of a function; return what it was, or None where nothing is to change."""
    before = ast.unparse(node) if isinstance(node, ast.expr | ast.stmt) else ""
    if isinstance(node, ast.Compare):
        operator = type(node.ops[0])
        node.ops[0] = SWAPPED[operator]()
    elif isinstance(node, ast.BoolOp):
        node.op = SWAPPED[type(node.op)]()
    elif isinstance(node, ast.Name) and node.id in NAMES:
        node.id = NAMES[node.id]
        before += "()"
    elif isinstance(node, ast.Constant) and _is_rule(function, node):
        node.value = f"{node.value}x" if isinstance(node.value, str) else node.value + 1
    elif isinstance(node, ast.If | ast.IfExp):
        before = f"if {ast.unparse(node.test)}"
        node.test = ast.Constant(True)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        node.op, node.operand = ast.Not(), ast.UnaryOp(ast.Not(), node.operand)
    else:
        return None
    line = getattr(node, "lineno", function.lineno)
    return f"line {line}: {before.splitlines()[0] or '(no text)'}"


def _is_rule(function: ast.FunctionDef, node: ast.Constant) -> bool:
    """Return whether a constant decides anything: no docstring, and no part of a message."""
    if type(node.value) not in (str, int):
        return False
    messages = [
        part
        for other in ast.walk(function)
        if isinstance(other, ast.JoinedStr | ast.Raise)
        or (isinstance(other, ast.Expr) and isinstance(other.value, ast.Constant))
        for part in ast.walk(other)
    ]
    return not any(part is node for part in messages)


def _module(tree: ast.Module, path: Path) -> types.ModuleType:
    module = types.ModuleType("zagreus_mutant")
    # Dataclasses look their module up.
    sys.modules[module.__name__] = module
    exec(compile(ast.fix_missing_locations(tree), str(path), "exec"), module.__dict__)
    return module
