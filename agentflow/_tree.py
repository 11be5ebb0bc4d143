"""Agents as a tree: names, parents, children, copies. What they do in it is `core`'s."""

import copy
import weakref
from abc import ABCMeta
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Self

from agentflow.errors import ConfigError

RESERVED = frozenset({"user", "system", "app", "temp"})


class _Built(ABCMeta):
    """Checks a node once its whole `__init__` has run, and freezes it."""

    if not TYPE_CHECKING:

        def __call__(cls, *args, **kwargs):  # noqa: ANN002, ANN003, ANN204 - hidden from type checkers: they read __init__
            node = super().__call__(*args, **kwargs)
            node._build()
            return node


class Node(metaclass=_Built):
    """Something named, with children and one parent, that doesn't change once built."""

    name: str
    sub_agents: Sequence[Any]
    _frozen = False
    _parent: Callable[[], Any] | None = None

    def __init__(self, name: str, *, sub_agents: Sequence[Any] = ()) -> None:
        vars(self).update(name=name, sub_agents=sub_agents)

    def check(self) -> None:
        """Called when built or cloned; a subclass checks its own settings here.

        Raises:
            ConfigError: A setting can't work.
        """

    def clone(self, **changes: Any) -> Self:
        """A copy with some settings changed and no parent; its sub-agents are cloned too.

        Args:
            **changes: Settings by the names of their attributes.

        Raises:
            ConfigError: There is no such setting, or it can't work.
        """
        unknown = [name for name in changes if name.startswith("_") or name not in self.__dict__]
        if unknown:
            known = ", ".join(sorted(name for name in self.__dict__ if not name.startswith("_")))
            raise ConfigError(f"{type(self).__name__} has no setting {unknown[0]!r}; it has {known}")
        other = copy.copy(self)
        vars(other).update(changes, _frozen=False, _parent=None)
        if "sub_agents" not in changes:
            vars(other)["sub_agents"] = [child.clone() for child in self.sub_agents]
        other._build()
        return other

    def find_agent(self, name: str) -> Any:
        """This agent or the first below it, depth first, that has this name; `None` if none has."""
        return next((node for node in self.walk() if node.name == name), None)

    def walk(self) -> Iterator[Any]:
        """This agent and all below it, depth first."""
        stack: list[Node] = [self]
        while stack:
            node = stack.pop()
            yield node
            stack.extend(reversed(node.sub_agents))

    @property
    def parent(self) -> Any:
        """The agent that has this one among its `sub_agents`, or `None`."""
        return self._parent() if self._parent is not None else None

    def __setattr__(self, name: str, value: object) -> None:
        if self._frozen:
            raise ConfigError(
                f"agent {self.name!r} can't be changed once built ({name}): use clone({name}=...), "
                "and keep what changes during a run in ctx.state"
            )
        super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        raise ConfigError(f"agent {self.name!r} can't be changed once built ({name})")

    def __repr__(self) -> str:
        inside = f", {list(self.sub_agents)!r}" if self.sub_agents else ""
        return f"{type(self).__name__}({self.name!r}{inside})"

    def _build(self) -> None:
        fields = vars(self)
        kind = type(self).__name__
        if "sub_agents" not in fields:
            raise ConfigError(f"{kind}.__init__ must call super().__init__(name, ...)")
        check_name(self.name, kind)
        if self.sub_agents != ():
            fields["sub_agents"] = _children(self.sub_agents, f"{kind} {self.name!r}")
        self.check()
        if self.sub_agents:
            self._check_tree(f"{kind} {self.name!r}")
            for child in self.sub_agents:
                vars(child)["_parent"] = weakref.ref(self)
        fields["_frozen"] = True

    def _check_tree(self, owner: str) -> None:
        for child in self.sub_agents:
            if child.parent not in (None, self):
                raise ConfigError(
                    f"{owner}: agent {child.name!r} already has a parent, {child.parent.name!r}; "
                    "use its clone(name=...) to have it in two places"
                )
        names: set[str] = set()
        for node in self.walk():
            if node.name in names:
                raise ConfigError(f"{owner}: two agents in one tree are named {node.name!r}; names must be unique")
            names.add(node.name)


def check_name(name: object, kind: str) -> None:
    """Check a name.

    Raises:
        ConfigError: It is empty, reserved, or has characters that branches and paths are written with.
    """
    if not isinstance(name, str) or not name:
        raise ConfigError(f"{kind} needs a name, not {name!r}")
    if name in RESERVED:
        raise ConfigError(f"{kind} can't be named {name!r}: that name is reserved")
    if not name.isidentifier() and (name.startswith("-") or not name.replace("-", "_").isidentifier()):
        raise ConfigError(
            f"{kind} can't be named {name!r}: use letters, digits, '_' and '-', beginning with a letter "
            "('.' and '#' are what branches are written with)"
        )


def _children(value: object, owner: str) -> tuple[Any, ...]:
    if isinstance(value, (Node, str)) or not isinstance(value, Sequence):
        raise ConfigError(f"{owner}: sub_agents must be a list of agents, not {type(value).__name__}")
    seen: set[int] = set()
    for i, child in enumerate(value):
        if not isinstance(child, Node):
            if isinstance(child, type):
                raise ConfigError(f"{owner}: sub_agents[{i}] is the class {child.__name__}, not an agent made of it")
            hint = "; wrap a function with @agent or FunctionAgent" if callable(child) else ""
            raise ConfigError(f"{owner}: sub_agents[{i}] is a {type(child).__name__}, not an agent{hint}")
        if id(child) in seen:
            raise ConfigError(f"{owner}: agent {child.name!r} is in sub_agents twice; use its clone(name=...)")
        seen.add(id(child))
    return tuple(value)
