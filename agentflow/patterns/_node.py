"""What a graph is made of: its nodes as they are written, named, and what runs for each of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from agentflow.content import UserContent
from agentflow.core import Agent
from agentflow.errors import ConfigError
from agentflow.patterns._calls import Function, FunctionStep, name_of
from agentflow.patterns._plan import Join, Vertex
from agentflow.policies import Retry


@dataclass(frozen=True, slots=True)
class Node:
    """A node of a `GraphAgent`: what is done, and when.

    Attributes:
        work: An agent, or a function. A function is given the results of dependencies by the names of its parameters,
            as the types that it asks for; `message` is what the graph works on, `results` all results by name, `ctx`
            the context. What it returns is its result. A plain function runs in a thread.
        name: By default the agent's or the function's.
        after: What it depends on: names, nodes, agents or functions.
        join: How much of that has to go well: `"all"`, `"any"` (it starts with the first), a number (with the first so
            many), or `"ended"` (it starts when all have ended, and one at least has gone well).
        priority: Among the nodes that wait for room the higher is first. Waiting counts too, so none starves.
        when: A function of results, by the names of its parameters, that says whether it runs at all.
        routes: What follows it, by its answer: `{"bug": "fix", "idea": ["plan", "thank"], "*": "reply"}`; `*` is any
            other answer. Of the nodes named here only those of its route run; other nodes after it always do.
        route_by: Makes of its result the label to look for in `routes`; by default it is the result.
        message: What an agent is told: text, parts, or a function of results that gives them. By default the result of
            its one dependency, or those of all, each under its name; without any, what the graph is told.
        args: Further arguments of a function.
        timeout: Seconds for its turn.
        retry: What to do when it fails.
    """

    work: Agent | Function
    name: str = field(default="", kw_only=True)
    after: Any = field(default=(), kw_only=True)
    join: Join = field(default="all", kw_only=True)
    priority: float = field(default=0, kw_only=True)
    when: Callable[..., bool] | None = field(default=None, kw_only=True)
    routes: Mapping[str, Any] = field(default_factory=dict, kw_only=True)
    route_by: Callable[[Any], Any] | None = field(default=None, kw_only=True)
    message: UserContent | Callable[..., UserContent] = field(default=None, kw_only=True)
    args: Mapping[str, Any] = field(default_factory=dict, kw_only=True)
    timeout: float | str | None = field(default=None, kw_only=True)
    retry: Retry | int | None = field(default=None, kw_only=True)


def named(node: Node, owner: str) -> Node:
    """The same node with a name.

    Raises:
        ConfigError: It has none, or nothing to do.
    """
    work = node.work
    if not isinstance(work, Agent) and (not callable(work) or isinstance(work, type)):
        raise ConfigError(f"{owner}: a node needs an agent or a function, not {work!r}")
    name = node.name or (work.name if isinstance(work, Agent) else name_of(work))
    if not name:
        raise ConfigError(f"{owner}: a node needs a name: Node({work!r}, name=...)")
    return replace(node, name=name) if name != node.name else node


def agent_of(node: Node) -> Agent:
    """Who takes a node's turn: its agent, with the node's settings, or its function."""
    work = node.work
    if not isinstance(work, Agent):
        return FunctionStep(node.name, work, by_name=True, timeout=node.timeout, retry=node.retry)
    changes: dict[str, Any] = {}
    if work.name != node.name:
        changes["name"] = node.name
    if node.timeout is not None:
        changes["timeout"] = node.timeout
    if node.retry is not None:
        changes["retry"] = node.retry
    return work.clone(**changes) if changes else work


def vertex(node: Node, owner: str) -> Vertex:
    """A node's place in the graph.

    Raises:
        ConfigError: A setting can't work.
    """
    where = f"{owner}: node {node.name!r}"
    priority: object = node.priority
    if isinstance(priority, bool) or not isinstance(priority, (int, float)) or not abs(priority) < float("inf"):
        raise ConfigError(f"{where}: priority must be a number, not {priority!r}")
    if not isinstance(node.routes, Mapping):
        raise ConfigError(f"{where}: routes must map answers to nodes, not {node.routes!r}")
    if node.route_by is not None and not node.routes:
        raise ConfigError(f"{where} has route_by, but no routes")
    routes = {str(label): tuple(_names(targets, where)) for label, targets in node.routes.items()}
    return Vertex(
        name=node.name, after=tuple(_names(node.after, where)), join=node.join, priority=priority, routes=routes
    )


def _names(value: Any, where: str) -> list[str]:
    """The names that something stands for: a name, a node, an agent, a function, or several of them."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, (Node, Agent)):
        value = value.name or name_of(getattr(value, "work", None)) or getattr(getattr(value, "work", None), "name", "")
        return [str(value)]
    if callable(value):
        return [name_of(value)]
    if not isinstance(value, Sequence):
        raise ConfigError(f"{where}: nodes are named by strings, nodes, agents or functions, not {value!r}")
    return [name for one in value for name in _names(one, where)]
