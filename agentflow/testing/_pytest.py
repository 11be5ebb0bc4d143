"""What makes the contract suites at home in pytest, where there is one. Nothing here imports it."""

import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, ClassVar, Protocol, TypeVar

import anyio

_SUITES = tuple(
    f"agentflow.testing.{name}"
    for name in ("artifacts", "memory", "sessions", "_commit_suite", "_state_suite", "_store_suite", "_upkeep_suite")
)

if (_loaded := sys.modules.get("pytest")) is not None:  # so that a failed assertion shows what it compared
    _loaded.register_assert_rewrite(*_SUITES)


class Closable(Protocol):
    """A service."""

    async def aclose(self) -> None:
        """Let go of what is held open."""


S = TypeVar("S", bound=Closable)


class Suite:
    """Base of the suites: async test methods that anyio's pytest plugin runs, whatever its mode.

    Attributes:
        time_limit: Seconds that one test may take.
    """

    time_limit: ClassVar[float] = 60.0
    pytestmark: ClassVar[Any] = []

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        pytest = sys.modules.get("pytest")
        if pytest is not None:
            own = cls.__dict__.get("pytestmark", ())
            cls.pytestmark = [*(own if isinstance(own, (list, tuple)) else (own,)), pytest.mark.anyio]

    @asynccontextmanager
    async def _within_limit(self, service: S) -> AsyncGenerator[S]:
        """Close the service in the end, and fail when all of it takes too long."""
        with anyio.fail_after(self.time_limit):
            try:
                yield service
            finally:
                with anyio.CancelScope(shield=True):
                    await service.aclose()
