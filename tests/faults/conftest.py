"""Time jumps in these tests, on both backends, and all spans are kept."""

import pytest

from tests.faults.checks import Spans, install
from tests.faults.clocks import jumpy_backend


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, object]]:
    return jumpy_backend(request.param)


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Spans:
    spans = Spans()
    install(monkeypatch, spans)
    return spans
