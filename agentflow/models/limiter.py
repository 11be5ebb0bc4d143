"""How many calls of a model may be on their way at once, and how that number follows what the provider can take."""

from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio
from anyio.lowlevel import RunVar

from agentflow.errors import ConfigError, ModelError

_TOO_MUCH = frozenset(("rate_limit", "overloaded"))


@dataclass(slots=True)
class _Line:
    """Who waits, in one event loop."""

    limit: float
    active: int = 0
    waiting: deque[anyio.Event] = field(default_factory=deque)
    not_before: float = 0.0
    cut: float = 0.0


class ConcurrencyLimiter:
    """Lets only so many model calls be on their way at once; the others wait, first come first served.

    One limiter may be given to any number of models, agents and branches; they share it. It adapts: when the provider
    says that it is too much (429, 529), the number is halved and nobody starts before the `retry-after` it gave; each
    call that goes well raises it again, by one for as many calls as may be on their way at once.

        limiter = ConcurrencyLimiter(20)
        critic = LlmAgent("critic", model=AnthropicModel("claude-sonnet-5-5", limiter=limiter))

    What a call waited is on its span, in a span of its own, and in `usage.extra["queueMs"]` of its event.

    Args:
        most: How many at once, at most.
        least: How far it may go down.
        adaptive: Whether it adapts at all.

    Raises:
        ConfigError: Numbers that can't work.
    """

    def __init__(self, most: int, *, least: int = 1, adaptive: bool = True) -> None:
        whole = all(isinstance(value, int) and not isinstance(value, bool) for value in (most, least))
        if not whole or not 1 <= least <= most:
            raise ConfigError(f"ConcurrencyLimiter needs whole numbers, 1 <= least <= most, not {least!r} and {most!r}")
        self.most = most
        self.least = least
        self.adaptive = adaptive
        self._line: RunVar[_Line] = RunVar("agentflow model calls")

    @property
    def limit(self) -> int:
        """How many may be on their way at once now."""
        return int(self._here().limit)

    @property
    def active(self) -> int:
        """How many are on their way."""
        return self._here().active

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._here().waiting)

    @asynccontextmanager
    async def slot(self) -> AsyncGenerator[float]:
        """Wait for a turn, and have it inside the block. Gives the seconds that it took."""
        line = self._here()
        began = anyio.current_time()
        await self._take(line)
        try:
            started = anyio.current_time()
            while line.not_before > started:
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

    def _here(self) -> _Line:
        line = self._line.get(None)
        if line is None:
            line = _Line(float(self.most))
            self._line.set(line)
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
