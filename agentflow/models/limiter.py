"""How many calls of a model may be on their way at once, and how that number follows what the provider can take."""

from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio
from anyio.lowlevel import RunVar

from agentflow._settings import check_flags
from agentflow.errors import ConfigError, ModelError

_TOO_MUCH = frozenset(("rate_limit", "overloaded"))


@dataclass(frozen=True, slots=True)
class Load:
    """What goes on at one model, in this event loop.

    Attributes:
        limit: How many of its calls may be on their way at once, now.
        active: How many are.
        waiting: How many wait.
    """

    limit: int
    active: int
    waiting: int


@dataclass(slots=True)
class _Line:
    """Who waits for one model, in one event loop."""

    limit: float
    active: int = 0
    waiting: deque[anyio.Event] = field(default_factory=deque)
    not_before: float = 0.0
    cut: float = 0.0


class ConcurrencyLimiter:
    """Lets only so many calls of a model be on their way at once; the others wait, first come first served.

    Agents and branches that use a model with this limiter share it, and so do model objects that it is given to and
    that have one name; models of other names have numbers of their own, as they have at their provider.

    It adapts: when the provider says that it is too much (429, 529), the number is halved and nobody starts before the
    `retry-after` it gave; each call that goes well raises it again, by one for as many calls as may be on their way at
    once.

        limiter = ConcurrencyLimiter(20)
        critic = LlmAgent("critic", model=AnthropicModel("claude-sonnet-5-5", limiter=limiter))

    What a call waited is on its span, in a span of its own, and in `usage.extra["queueMs"]` of its event.

    Args:
        most: How many of one model at once, at most.
        least: How far it may go down.
        adaptive: Whether it adapts at all.

    Raises:
        ConfigError: Numbers that can't work.
    """

    def __init__(self, most: int, *, least: int = 1, adaptive: bool = True) -> None:
        whole = all(isinstance(value, int) and not isinstance(value, bool) for value in (most, least))
        if not whole or not 1 <= least <= most:
            raise ConfigError(f"ConcurrencyLimiter needs whole numbers, 1 <= least <= most, not {least!r} and {most!r}")
        check_flags("ConcurrencyLimiter", adaptive=adaptive)
        self.most = most
        self.least = least
        self.adaptive = adaptive
        self._lines: RunVar[dict[str, _Line]] = RunVar("agentflow model calls")

    def load(self, model: str = "") -> Load:
        """What goes on at the model of this name."""
        line = self._line(model)
        return Load(int(line.limit), line.active, len(line.waiting))

    @asynccontextmanager
    async def slot(self, model: str = "", *, patient: bool = True) -> AsyncGenerator[float]:
        """Wait for a turn at a model, and have it inside the block. Gives the seconds that it took.

        Raises:
            ModelError: The provider wants no calls for a while, and who asks isn't `patient`.
        """
        line = self._line(model)
        began = anyio.current_time()
        await self._take(line)
        try:
            started = anyio.current_time()
            while line.not_before > started:
                if not patient:
                    pause = line.not_before - started
                    why = f"model {model!r} wants no calls for {pause:.3g} s"
                    raise ModelError(why, kind="rate_limit", retry_after=pause, model=model)
                await anyio.sleep_until(line.not_before)
                started = anyio.current_time()
            try:
                yield max(0.0, started - began)
            except ModelError as error:
                if self.adaptive and error.kind in _TOO_MUCH:
                    self._slow_down(line, started, error.retry_after)
                raise
            if self.adaptive and line.limit < self.most:
                line.limit = min(self.most, line.limit + 1 / line.limit)
        finally:
            line.active -= 1
            self._let_in(line)

    def _line(self, model: str) -> _Line:
        lines = self._lines.get(None)
        if lines is None:
            lines = {}
            self._lines.set(lines)
        line = lines.get(model)
        if line is None:
            line = lines[model] = _Line(float(self.most))
        return line

    async def _take(self, line: _Line) -> None:
        if line.active < int(line.limit) and not line.waiting:
            line.active += 1
            return
        turn = anyio.Event()
        line.waiting.append(turn)
        try:
            await turn.wait()
        except BaseException:
            if turn.is_set():  # its turn came while it was being cancelled
                line.active -= 1
                self._let_in(line)
            else:
                line.waiting.remove(turn)
            raise

    def _let_in(self, line: _Line) -> None:
        while line.waiting and line.active < int(line.limit):
            line.active += 1
            line.waiting.popleft().set()

    def _slow_down(self, line: _Line, started: float, retry_after: float | None) -> None:
        now = anyio.current_time()
        if started >= line.cut:  # those that were on their way when it was halved say nothing new
            line.limit = max(float(self.least), line.limit / 2)
            line.cut = now
        if retry_after:
            line.not_before = max(line.not_before, now + retry_after)
