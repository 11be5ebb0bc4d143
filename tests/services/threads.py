"""For tests of what another thread does."""

from collections.abc import Callable

import anyio


async def until(true: Callable[[], object]) -> None:
    """Wait for another thread, which sets no event, to have come so far; 30 seconds at most."""
    with anyio.fail_after(30):
        while not true():  # noqa: ASYNC110 - see above
            await anyio.sleep(0.001)
