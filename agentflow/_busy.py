"""One run at a time in a session: who holds it, and who waits."""

import weakref
from collections import deque
from typing import Literal

import anyio

from agentflow.errors import SessionBusy
from agentflow.run import inside
from agentflow.services.sessions import SessionKey, SessionService

OnBusy = Literal["wait", "reject"]


class SessionTurns:
    """Whose turn it is in each session of one store: one run at a time, first come first served."""

    def __init__(self) -> None:
        self.holders: dict[SessionKey, object] = {}
        self.waiting: dict[SessionKey, deque[tuple[object, anyio.Event]]] = {}

    async def take(self, key: SessionKey, who: object, on_busy: OnBusy) -> None:
        """Make `who` the holder of a session, at once or when it is its turn.

        Raises:
            SessionBusy: Another holds it, and `who` doesn't wait, or would wait for itself.
        """
        if key not in self.holders:
            self.holders[key] = who
            return
        if any(live.invocation.key == key and not live.done.is_set() for live in inside.get()):
            raise SessionBusy(
                f"session {key.session_id!r} is held by the run that this one is started from: it would wait for itself"
            )
        if on_busy == "reject":
            raise SessionBusy(f"session {key.session_id!r} is busy with another run (on_busy='reject')")
        event = anyio.Event()
        entry = (who, event)
        self.waiting.setdefault(key, deque()).append(entry)
        try:
            await event.wait()
        except BaseException:
            if self.holders.get(key) is who:
                self.give(key)
            else:
                self.waiting[key].remove(entry)
            raise

    def give(self, key: SessionKey) -> None:
        """Let the next one have it."""
        queue = self.waiting.get(key)
        if queue:
            self.holders[key], event = queue.popleft()
            event.set()
        else:
            self.waiting.pop(key, None)
            self.holders.pop(key, None)


_turns: "weakref.WeakKeyDictionary[SessionService, SessionTurns]" = weakref.WeakKeyDictionary()


def turns_in(sessions: SessionService) -> SessionTurns:
    """Those of a store; all Runners that use it share them."""
    return _turns.setdefault(sessions, SessionTurns())
