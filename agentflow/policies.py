"""How often, how long, how much: retries and limits."""

import random
import re
from collections.abc import Callable
from dataclasses import dataclass

from agentflow.errors import AgentflowError, ConfigError, ModelError, ServiceError

_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h)?\s*")
_UNITS = {"ms": 0.001, "s": 1.0, None: 1.0, "m": 60.0, "h": 3600.0}


def seconds(value: float | str | None, what: str) -> float | None:
    """A duration in seconds; `"5m"`, `"90s"`, `"1.5h"`, `"200ms"` are understood. `None` stays `None`.

    Raises:
        ConfigError: It is no duration, or not above zero.
    """
    if value is None:
        return None
    if isinstance(value, str):
        match = _DURATION.fullmatch(value)
        if match is None:
            raise ConfigError(f"{what} must be seconds or a string like '5m', not {value!r}")
        value = float(match[1]) * _UNITS[match[2]]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
        raise ConfigError(f"{what} must be a number of seconds above 0, or None for no limit, not {value!r}")
    return float(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """Try an agent again when it fails.

    Attributes:
        attempts: How often in all, the first included.
        delay: Seconds before the second attempt; each further wait is `factor` times longer, up to `max_delay`. Where a
            model's provider says how long to wait, that is obeyed; if it is longer than `max_delay`, nothing is tried.
        jitter: Share of each wait that is drawn at random, 0 to 1, so that branches don't retry in step.
        on: Which exceptions are worth it: types, or a function of the exception. By default any `Exception` but
            those of agentflow's own that say that trying again can't help.
    """

    attempts: int = 3
    delay: float = 1.0
    factor: float = 2.0
    max_delay: float = 60.0
    jitter: float = 0.0
    on: type[Exception] | tuple[type[Exception], ...] | Callable[[Exception], bool] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.attempts, bool) or not isinstance(self.attempts, int) or self.attempts < 1:
            raise ConfigError(f"Retry attempts must be a whole number of at least 1, not {self.attempts!r}")
        numbers = (self.delay, self.max_delay, self.factor, self.jitter)
        good = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in numbers)
        if not good or not (self.delay >= 0 and self.max_delay >= 0 and self.factor >= 1 and 0 <= self.jitter <= 1):
            raise ConfigError(f"Retry needs delay and max_delay >= 0, factor >= 1 and jitter from 0 to 1: {self!r}")
        on = (self.on,) if isinstance(self.on, type) else tuple(self.on) if isinstance(self.on, list) else self.on
        if isinstance(on, tuple) and all(isinstance(kind, type) and issubclass(kind, Exception) for kind in on):
            object.__setattr__(self, "on", on)
        elif on is not None and not callable(on):
            raise ConfigError(f"Retry on must be exception types or a function of the exception, not {self.on!r}")

    def covers(self, error: Exception) -> bool:
        """Whether this error is one to try again after; of a group, whether all in it are."""
        if isinstance(error, ExceptionGroup):
            return all(self.covers(one) for one in error.exceptions)
        if self.on is None:
            # A service may recover and a step's own time may suffice next time; the rest of our errors are verdicts.
            return not isinstance(error, AgentflowError) or (
                isinstance(error, (ModelError, ServiceError, TimeoutError)) and getattr(error, "retryable", True)
            )
        if isinstance(self.on, (tuple, type)):
            return isinstance(error, self.on)
        return self.on(error)

    def pause(self, attempt: int, error: Exception, rng: random.Random) -> float | None:
        """Seconds to wait after attempt number `attempt`, from 1, failed with `error`; `None`: don't try again.

        Where a provider asked for a pause (`ModelError.retry_after`), that is the wait; one longer than `max_delay` is
        too long to wait for.
        """
        if attempt >= self.attempts or not self.covers(error):
            return None
        asked = _asked_pause(error)
        if asked is None:
            return self.wait(attempt, rng)
        return asked if asked <= self.max_delay else None

    def wait(self, attempt: int, rng: random.Random) -> float:
        """Seconds to wait after failed attempt number `attempt`, from 1."""
        full = min(self.max_delay, self.delay * self.factor ** (attempt - 1))
        return full * (1 - self.jitter * rng.random())


def _asked_pause(error: Exception) -> float | None:
    """Seconds that a provider asked to wait; of a group, the longest that one in it did."""
    if isinstance(error, ExceptionGroup):
        return max((pause for one in error.exceptions if (pause := _asked_pause(one)) is not None), default=None)
    return error.retry_after if isinstance(error, ModelError) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one run may spend, its sub-agents included. `None` is no limit; what is charged is in `Spent`.

    Attributes:
        model_calls: Calls of any model. One counts from when it begins; what a provider charges for failed attempts at
            it counts when that is known.
        tokens: Input and output tokens together. Known only when an answer is there: calls that are under way at the
            same time may go over it together, and none begins after that.
        cost: US dollars, where the price is known; otherwise like `tokens`.
        seconds: Wall-clock seconds, waits for the consumer included.
        events: Events stored, lifecycle events aside.
    """

    model_calls: int | None = 500
    tokens: int | None = None
    cost: float | None = None
    seconds: float | None = None
    events: int | None = None

    def __post_init__(self) -> None:
        for name in ("model_calls", "tokens", "cost", "seconds", "events"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0):
                raise ConfigError(f"Limits({name}=...) must be above 0, or None for no limit, not {value!r}")


@dataclass(slots=True, eq=False)
class Spent:
    """What a run has spent so far; the names are those of `Limits`."""

    model_calls: int = 0
    tokens: int = 0
    cost: float = 0.0
    seconds: float = 0.0
    events: int = 0

    def exceeded(self, limits: Limits) -> str | None:
        """The first limit that is overrun, if any."""
        for name in ("model_calls", "tokens", "cost", "events"):
            limit = getattr(limits, name)
            if limit is not None and getattr(self, name) > limit:
                return name
        return None

    def as_dict(self) -> dict[str, float]:
        """The figures by name."""
        return {
            "model_calls": self.model_calls,
            "tokens": self.tokens,
            "cost": self.cost,
            "seconds": self.seconds,
            "events": self.events,
        }
