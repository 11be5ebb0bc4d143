"""State as a branch sees it, and what happens when two branches write one key."""

import logging
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from copy import deepcopy
from dataclasses import dataclass
from functools import partial, reduce
from typing import Any, Literal

from agentflow.errors import ConfigError, ContextEnded
from agentflow.events import Actions

logger = logging.getLogger(__name__)

Reducer = Callable[[Any, Any], Any]
"""Joins two values of a key: `operator.add`, `max`, a function of yours. It should be associative."""

OnConflict = Literal["last", "error"] | Mapping[str, Reducer]

TEMP = "temp:"
"""Keys with this prefix live as long as the run and are never stored."""


class _Removed:
    """Stands for a key that is deleted, which is not the same as one that is None."""

    def __repr__(self) -> str:
        return "REMOVED"


REMOVED = _Removed()
_ABSENT = object()


@dataclass(frozen=True, slots=True)
class Earlier:
    """Stands for the turns that brought something before the run paused: where in the log, and on whose line."""

    serial: int
    branch: str
    path: str


class Group:
    """One instance of a parallel group: who wrote what, and what is to be folded at the join.

    A key that a group around it reduces it reduces too: what its branches bring is folded group by group.

    Attributes:
        writers: The last to write each key: the child's index, and the branch.
        coming: Those whose writes are on their way to the store, by key.
        contributions: By child and key what was brought, oldest first: the value, and the turns it would be dropped
            with, should they be tried again.
        reason: Why its branches are cancelled, once they are.
        stopped: Children that were cancelled by themselves.
    """

    __slots__ = ("coming", "contributions", "name", "policy", "reason", "reducers", "stopped", "writers")

    def __init__(self, name: str, on_conflict: OnConflict, around: "Groups" = ()) -> None:
        self.name = name
        above: Mapping[str, Reducer] = around[0][0].reducers if around else {}
        own: Mapping[str, Reducer] = on_conflict if isinstance(on_conflict, Mapping) else {}
        self.reducers: Mapping[str, Reducer] = {**above, **own} if own else above
        self.policy = "last" if isinstance(on_conflict, Mapping) else on_conflict
        self.writers: dict[str, tuple[int, str]] = {}
        self.coming: dict[str, list[tuple[int, str]]] = {}
        self.contributions: dict[int, dict[str, list[tuple[tuple[object, ...], Any]]]] = {}
        self.reason = ""
        self.stopped: frozenset[int] = frozenset()

    def conflict(self, key: str, index: int) -> str | None:
        """The branch of another child that wrote `key` before, or is about to, if one did."""
        writer = self.writers.get(key)
        if writer is not None and writer[0] != index:
            return writer[1]
        for child, branch in self.coming.get(key, ()):
            if child != index:
                return branch
        return None

    def contribute(self, index: int, key: str, value: Any, tries: tuple[object, ...] = ()) -> None:
        """Add `value` to what child `index` brings to `key`, until one of the turns `tries` is tried again."""
        self.contributions.setdefault(index, {}).setdefault(key, []).append((tries, value))

    def brought(self, index: int, key: str) -> Any:
        """What child `index` has brought to `key` so far; it has brought something."""
        kept: list[tuple[tuple[object, ...], Any]] = []
        for tries, value in self.contributions[index][key]:
            if kept and kept[-1][0] == tries:
                kept[-1] = (tries, self.join(key, kept[-1][1], value))
            else:
                kept.append((tries, value))
        self.contributions[index][key] = kept  # whoever asks again need not join these again
        return reduce(partial(self.join, key), [value for _, value in kept])

    def join(self, key: str, left: Any, right: Any) -> Any:
        """Apply the reducer of `key`, which may change what it is given: what is stored already mustn't change."""
        try:
            return self.reducers[key](deepcopy(left), deepcopy(right))
        except Exception as error:
            error.add_note(f"in the reducer for state key {key!r}")
            raise

    def forget(self, index: int, turn: object = None, earlier: Callable[[Earlier], bool] = lambda _: False) -> None:
        """Drop what child `index` brought: it didn't end well; or, of that, what `turn` did, which is tried again.

        Of what was brought before the run paused, that is what `earlier` says.
        """
        own = self.contributions.pop(index, {})
        if turn is not None:

            def its(one: object) -> bool:
                return one is turn or (isinstance(one, Earlier) and earlier(one))

            kept = {key: [note for note in notes if not any(map(its, note[0]))] for key, notes in own.items()}
            self.contributions[index] = {key: notes for key, notes in kept.items() if notes}

    def fold(self, indices: list[int]) -> dict[str, Any]:
        """What the children at `indices` brought, key by key, folded in declaration order."""
        folded: dict[str, Any] = {}
        for index in sorted(indices):
            for key in self.contributions.get(index, {}):
                value = self.brought(index, key)
                folded[key] = self.join(key, folded[key], value) if key in folded else value
        return folded


Groups = tuple[tuple[Group, int], ...]
"""The parallel groups that a branch is in, innermost first, each with its place there."""


def check_on_conflict(value: Any, owner: str) -> OnConflict:
    """`value`, if it is a conflict policy.

    Raises:
        ConfigError: It is none.
    """
    if isinstance(value, Mapping):
        for key, reducer in value.items():
            if not isinstance(key, str) or not callable(reducer):
                raise ConfigError(f"{owner}: on_conflict maps state keys to functions of two values, not {value!r}")
        return dict(value)
    if value not in ("last", "error"):
        raise ConfigError(f"{owner}: on_conflict must be 'last', 'error' or a reducer per key, not {value!r}")
    return value  # type: ignore[no-any-return]  # one of the two literals


def reducing(groups: Groups, key: str) -> tuple[Group, int] | None:
    """The nearest group, and the branch's place in it, if that or one around it reduces `key`."""
    return groups[0] if groups and key in groups[0][0].reducers else None


class State(MutableMapping[str, Any]):
    """What an agent reads and writes.

    Reading gives its own pending writes over committed state; siblings never see them. A write is published, all at
    once, with the next event that the agent emits, before it runs a child, or when it succeeds; it is dropped when the
    agent fails, or when a `StateConflict` refuses it. Deleting a key is a write too, and not the same as setting it to
    None. Values are JSON; change one by assigning it again, not in place.

    Under a Parallel with a reducer for a key, however deep, what an agent writes to that key is a *contribution*: write
    what you add, not the sum. Reading gives what was there before the fork, joined with what its own branch brought.

    Keys: `app:` is shared by all users of the app, `user:` by all sessions of the user, `temp:` ends with the run and
    is never stored; all others belong to the session.
    """

    __slots__ = ("_committed", "_groups", "_pending", "_writable")

    def __init__(self, committed: dict[str, Any], groups: Groups = ()) -> None:
        self._committed = committed
        self._groups = groups
        self._pending: dict[str, Any] | None = None
        self._writable = True

    def __getitem__(self, key: str) -> Any:
        pending = self._pending.get(key, _ABSENT) if self._pending is not None else _ABSENT
        if pending is REMOVED:
            raise KeyError(key)
        reducer = reducing(self._groups, key) if self._groups else None
        if pending is not _ABSENT and reducer is None:
            return pending
        value = self._committed.get(key, REMOVED)
        for group, index in reversed(self._groups):  # what each outer branch brought, then what this one did
            own = group.contributions.get(index)
            if own is not None and key in own:
                brought = group.brought(index, key)
                value = brought if value is REMOVED else group.join(key, value, brought)
        if pending is not _ABSENT and reducer is not None:
            return pending if value is REMOVED else reducer[0].join(key, value, pending)
        if value is REMOVED:
            raise KeyError(key)
        return deepcopy(value) if isinstance(value, (list, dict)) else value  # no change in place

    def __setitem__(self, key: str, value: Any) -> None:
        self._check(key)
        if self._pending is None:
            self._pending = {}
        elif key in self._pending and self._pending[key] is not REMOVED:
            reducer = reducing(self._groups, key) if self._groups else None
            if reducer is not None:
                value = reducer[0].join(key, self._pending[key], value)
        self._pending[key] = value

    def __delitem__(self, key: str) -> None:
        self._check(key)
        if key not in self:
            raise KeyError(key)
        if self._pending is None:
            self._pending = {}
        self._pending[key] = REMOVED

    def _check(self, key: str) -> None:
        if not self._writable:
            raise ContextEnded(f"state can't be written any more ({key!r}): the agent's turn has ended")
        if not isinstance(key, str) or not key:
            raise ConfigError(f"a state key must be a string that isn't empty, not {key!r}")

    def __iter__(self) -> Iterator[str]:
        pending = self._pending or {}
        keys = dict.fromkeys([*self._committed, *pending])
        for group, index in self._groups:
            keys.update(dict.fromkeys(group.contributions.get(index, {})))
        return iter([key for key in keys if pending.get(key) is not REMOVED])

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, key: object) -> bool:
        try:
            self[key]  # type: ignore[index]  # any object may be asked for
        except KeyError:
            return False
        return True

    def __repr__(self) -> str:
        return f"State({dict(self)!r})"

    def take_pending(self) -> dict[str, Any] | None:
        """The pending writes, no longer pending; `None` if there are none."""
        pending, self._pending = self._pending, None
        return pending or None

    def give_back(self, pending: dict[str, Any]) -> None:
        """Make writes pending again that were taken and not published, as if those made since came after them."""
        since, self._pending = self._pending or {}, pending
        for key, value in since.items():
            if value is REMOVED:
                pending[key] = REMOVED
            else:
                self[key] = value

    def drop_pending(self) -> None:
        """Forget the pending writes."""
        self._pending = None

    def rebase(self, committed: dict[str, Any]) -> None:
        """Read from `committed` from now on, without any pending writes: they are in there."""
        self._committed, self._pending = committed, None

    def close(self) -> None:
        """No more writes: the agent's turn has ended."""
        self._writable = False
        self._pending = None


def with_pending(pending: dict[str, Any], event_actions: Actions | None, groups: Groups = ()) -> Actions:
    """The actions of an event with an agent's pending writes added; the event's own win, or are joined with them."""
    actions = event_actions or Actions()
    removed = list(actions.state_removed)
    delta = {}
    for key, value in pending.items():
        if value is REMOVED:
            if key not in removed and key not in actions.state_delta:
                removed.append(key)
        elif key not in removed:
            delta[key] = value
    for key, value in actions.state_delta.items():
        reducer = reducing(groups, key) if key in delta else None
        delta[key] = value if reducer is None else reducer[0].join(key, delta[key], value)
    return Actions(
        delta,
        removed,
        dict(actions.contributions),
        dict(actions.artifact_delta),
        actions.escalate,
        actions.transfer_to_agent,
        actions.skip_summarization,
        extra=actions.extra,
    )
