"""Time jumps in these tests, on both backends: a deadline costs nothing, and who waits for ever is found at once."""

import pytest

from tests.faults.clocks import jumpy_backend


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, object]]:
    return jumpy_backend(request.param)
