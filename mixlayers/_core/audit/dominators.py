"""Dominators: the nodes on every path from a graph's outputs to its input."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set

Graph = Mapping[int, Sequence[int]]
"""Node -> the nodes that it was computed from."""

_END = -1


def on_every_path(graph: Graph, root: int, sources: Set[int]) -> set[int]:
    """The nodes that lie on every path from `root` to any of `sources`.

    In a topological order of the nodes on such paths, a node is on every path exactly when no edge from
    before it leads past it. One sweep, linear in the number of edges.

    Args:
        graph: A directed graph without cycles.
        root: Where paths start (the model's output).
        sources: Where paths end (its inputs).
    """
    order = _towards(graph, root, sources)
    position = {node: i for i, node in enumerate(order)}
    found, furthest = set(), 0
    for i, node in enumerate(order):
        if furthest <= i and node != _END:
            found.add(node)
        ahead = [position[after] for after in graph.get(node, ()) if after in position]
        if node in sources:
            ahead.append(position[_END])
        furthest = max([furthest, *ahead])
    return found


def separates(graph: Graph, cut: Set[int], root: int, sources: Set[int]) -> bool:
    """Whether every path from `root` to `sources` meets `cut`."""
    seen, stack = {root}, [root]
    while stack:
        node = stack.pop()
        if node in cut:
            continue
        if node in sources:
            return False
        fresh = [after for after in graph.get(node, ()) if after not in seen]
        seen.update(fresh)
        stack.extend(fresh)
    return True


def _towards(graph: Graph, root: int, sources: Set[int]) -> list[int]:
    """The nodes on a path from `root` to `sources`, in topological order, closed by `_END`."""
    finished: list[int] = []
    leads: dict[int, bool] = {}
    stack: list[tuple[int, Iterable[int]]] = [(root, iter(graph.get(root, ())))]
    leads[root] = root in sources
    while stack:
        node, rest = stack[-1]
        for after in rest:
            if after not in leads:
                leads[after] = after in sources
                stack.append((after, iter(graph.get(after, ()))))
                break
            leads[node] |= leads[after]
        else:
            stack.pop()
            if stack:
                leads[stack[-1][0]] |= leads[node]
            if leads[node]:
                finished.append(node)
    return [*reversed(finished), _END]
