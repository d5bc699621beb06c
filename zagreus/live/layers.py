"""The rules of a run in layers: each rule below all rules that its jobs wait for."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from graphlib import CycleError, TopologicalSorter

Link = tuple[str, str]


def layers(rules: Iterable[str], links: Collection[Link]) -> list[list[str]]:
    """Return the rules in layers, from what comes first to what comes last.

    Args:
        rules: all of them.
        links: (rule that is waited for, rule that waits); other rules are left out.

    Returns:
        each rule once; all rules in one layer where the links form a circle.
    """
    known = list(dict.fromkeys(rules))
    before: dict[str, set[str]] = {rule: set() for rule in known}
    for source, target in links:
        if source in before and target in before and source != target:
            before[target].add(source)
    try:
        order = list(TopologicalSorter(before).static_order())
    except CycleError:
        return [known]
    depth: dict[str, int] = {}
    for rule in order:
        depth[rule] = 1 + max((depth[other] for other in before[rule]), default=-1)
    position = {rule: index for index, rule in enumerate(known)}
    by_depth: list[list[str]] = [[] for _ in range(max(depth.values(), default=-1) + 1)]
    for rule in sorted(known, key=position.__getitem__):
        by_depth[depth[rule]].append(rule)
    return by_depth


def direct_links(links: Collection[Link]) -> list[Link]:
    """Return the links that no longer way replaces, so that a drawing of them can be read."""
    after: dict[str, set[str]] = {}
    for source, target in links:
        after.setdefault(source, set()).add(target)

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        queue = [start]
        while queue:
            for other in after.get(queue.pop(), ()):
                if other not in seen:
                    seen.add(other)
                    queue.append(other)
        return seen

    below = {rule: reached(rule) for rule in after}
    return sorted(
        (source, target)
        for source, target in set(links)
        if source != target
        and not any(
            target in below.get(other, ())
            for other in after[source]
            if other not in (source, target)
        )
    )
