"""How many calls are on their way at once, and how that follows what the provider can take."""

from collections.abc import Callable
from typing import Any

import anyio
import pytest

from agentflow import ConcurrencyLimiter, ConfigError, ModelError
from agentflow.models.limiter import Load
from tests.faults.clocks import jumpy_backend
from tests.models.asking import busy


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, object]]:
    return jumpy_backend(request.param)


async def works(limiter: ConcurrencyLimiter, seconds: float, done: Callable[[float], Any] | None = None) -> None:
    async with limiter.slot():
        await anyio.sleep(seconds)
    if done is not None:
        done(anyio.current_time())


async def fails_in(limiter: ConcurrencyLimiter, seconds: float, error: Exception) -> None:
    try:
        async with limiter.slot():
            await anyio.sleep(seconds)
            raise error
    except type(error):
        return
    pytest.fail("it passes errors on")


async def test_so_many_at_once_and_first_come_first_served() -> None:
    limiter = ConcurrencyLimiter(2)
    began, ends = anyio.current_time(), []
    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(works, limiter, 1.0, ends.append)
            await anyio.sleep(0.01)
        assert limiter.load() == Load(limit=2, active=2, waiting=3)
    assert [round(end - began) for end in ends] == [1, 1, 2, 2, 3]
    assert (limiter.load().active, limiter.load().waiting) == (0, 0)


async def test_who_is_cancelled_while_waiting_takes_no_turn() -> None:
    limiter = ConcurrencyLimiter(1)
    order: list[str] = []

    async def one(name: str) -> None:
        async with limiter.slot():
            order.append(name)
            await anyio.sleep(1)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one, "a")
        await anyio.sleep(0.1)
        async with anyio.create_task_group() as doomed:
            doomed.start_soon(one, "b")
            await anyio.sleep(0.1)
            tasks.start_soon(one, "c")
            doomed.cancel_scope.cancel()
    assert order == ["a", "c"]
    assert (limiter.load().active, limiter.load().waiting) == (0, 0)


async def test_a_turn_that_comes_while_it_is_cancelled_goes_to_the_next() -> None:
    limiter = ConcurrencyLimiter(1)
    async with anyio.create_task_group() as tasks, limiter.slot():
        doomed = anyio.CancelScope()

        async def one() -> None:
            with doomed:
                await works(limiter, 1)

        tasks.start_soon(one)
        tasks.start_soon(works, limiter, 1)
        await anyio.sleep(0.1)
        doomed.cancel()
    assert (limiter.load().active, limiter.load().waiting) == (0, 0)


async def test_too_much_halves_it_and_what_goes_well_raises_it_again() -> None:
    limiter = ConcurrencyLimiter(16)
    for left in (8, 4, 2, 1, 1):
        await fails_in(limiter, 1, busy())
        assert limiter.load().limit == left
    for _ in range(2):
        await works(limiter, 1)
    assert limiter.load().limit == 2
    for _ in range(200):
        await works(limiter, 0.01)
    assert limiter.load().limit == 16


async def test_a_volley_of_refusals_counts_once() -> None:
    limiter = ConcurrencyLimiter(16)
    async with anyio.create_task_group() as tasks:
        for _ in range(16):
            tasks.start_soon(fails_in, limiter, 1, busy())
    assert limiter.load().limit == 8


async def test_nobody_starts_before_the_provider_wants() -> None:
    limiter = ConcurrencyLimiter(4)
    began, ends = anyio.current_time(), []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(fails_in, limiter, 0, busy(retry_after=30))
        await anyio.sleep(0.1)
        tasks.start_soon(works, limiter, 1.0, ends.append)
        tasks.start_soon(works, limiter, 1.0, ends.append)
    assert [round(end - began) for end in ends] == [31, 31]


async def test_each_model_has_numbers_of_its_own() -> None:
    """As it has at its provider: that one is busy says nothing about another."""
    limiter = ConcurrencyLimiter(2)
    began = anyio.current_time()
    with pytest.raises(ModelError):
        async with limiter.slot("opus"):
            raise busy(retry_after=30)
    async with limiter.slot("haiku"), limiter.slot("haiku"):
        assert anyio.current_time() == began
        assert (limiter.load("opus").limit, limiter.load("haiku").active) == (1, 2)
    async with limiter.slot("opus") as waited:
        assert waited == pytest.approx(30)


async def test_other_failures_change_nothing() -> None:
    limiter = ConcurrencyLimiter(4)
    await fails_in(limiter, 1, ModelError("no", kind="auth"))
    await fails_in(limiter, 1, KeyError("x"))
    fixed = ConcurrencyLimiter(4, adaptive=False)
    await fails_in(fixed, 1, busy(retry_after=30))
    assert (limiter.load().limit, fixed.load().limit) == (4, 4)


async def test_it_never_goes_below_the_least() -> None:
    limiter = ConcurrencyLimiter(10, least=3)
    for _ in range(5):
        await fails_in(limiter, 1, busy())
    assert limiter.load().limit == 3


@pytest.mark.parametrize(("most", "least"), [(0, 1), (2, 3), (2.5, 1), (True, True), (3, 0)])
def test_numbers_that_can_not_work_are_refused(most: Any, least: Any) -> None:
    with pytest.raises(ConfigError):
        ConcurrencyLimiter(most, least=least)
