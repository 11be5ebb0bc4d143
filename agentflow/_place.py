"""Where in a run something is said: the line that it stands on, who watches that, and the clocks that run there."""

from collections.abc import Callable
from typing import Any

import anyio

from agentflow._streams import Flow
from agentflow.events import Event
from agentflow.state import Groups

Watcher = Callable[[Event, str, Any], None]
"""Is told of each event on a branch of its group, of that branch, and of the loop that the event ends, if it does."""


class Place:
    """One line of a run: a branch, its flow of events, the parallel groups it is in, who watches it.

    `tries`: the turns around it, as far as the nearest group, that may be tried again.
    """

    __slots__ = ("branch", "flow", "groups", "segments", "tries", "watchers")

    def __init__(
        self,
        segments: tuple[str, ...],
        groups: Groups = (),
        watchers: tuple[Watcher, ...] = (),
        tries: tuple[object, ...] = (),
    ) -> None:
        self.segments = segments
        self.branch = ".".join(segments)
        self.flow = Flow()
        self.groups = groups
        self.watchers = watchers
        self.tries = tries

    def tried(self, turn: object) -> "Place":
        """The same place for `turn`, which may be tried again."""
        place = Place(self.segments, self.groups, self.watchers, (*self.tries, turn))
        place.flow = self.flow
        return place


class Timer:
    """A deadline whose clock stands still while an `emit` under it waits for the consumer."""

    __slots__ = ("_left", "_now", "_scope", "_waiting")

    def __init__(self, scope: anyio.CancelScope, now: Callable[[], float]) -> None:
        self._scope = scope
        self._now = now
        self._waiting = 0
        self._left = 0.0

    def left(self) -> float:
        """Seconds left."""
        return self._left if self._waiting else self._scope.deadline - self._now()

    def pause(self) -> None:
        """Someone waits for the consumer."""
        if not self._waiting:
            self._left = self._scope.deadline - self._now()
            self._scope.deadline = float("inf")
        self._waiting += 1

    def resume(self) -> None:
        """They no longer do."""
        self._waiting -= 1
        if not self._waiting:
            self._scope.deadline = self._now() + self._left
