"""An OpenTelemetry SDK for one test.

OpenTelemetry lets a process set its global providers once. The first fixture puts fresh values in the places where its
API keeps them (private names, of opentelemetry-api 1.40 to 1.45) and pytest puts the old ones back, so that each test
has providers of its own and no other test is traced.
"""

from collections.abc import Callable, Iterator

import pytest
from opentelemetry import trace
from opentelemetry.metrics import _internal as metrics
from opentelemetry.sdk.trace.sampling import Sampler
from opentelemetry.util._once import Once

from tests.tracing.spans import Metered, Traced


@pytest.fixture(autouse=True)
def no_sdk(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a fresh process: no global provider, none set ever, no variables that say otherwise."""
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", None)
    monkeypatch.setattr(trace, "_TRACER_PROVIDER_SET_ONCE", Once())
    monkeypatch.setattr(metrics, "_METER_PROVIDER", None)
    monkeypatch.setattr(metrics, "_METER_PROVIDER_SET_ONCE", Once())
    monkeypatch.setattr(metrics, "_PROXY_METER_PROVIDER", metrics._ProxyMeterProvider())
    for name in (
        "OTEL_SDK_DISABLED",
        "OTEL_SERVICE_NAME",
        "OTEL_RESOURCE_ATTRIBUTES",
        "OTEL_TRACES_SAMPLER",
        "OTEL_PYTHON_TRACER_PROVIDER",
        "OTEL_PYTHON_METER_PROVIDER",
        "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT",
    ):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def traced() -> Iterator[Traced]:
    """An SDK is installed; these are its spans."""
    found = Traced()
    yield found
    assert found.ledger.open() == []
    found.provider.shutdown()


@pytest.fixture
def traced_by() -> Iterator[Callable[[Sampler], Traced]]:
    """Install an SDK with this sampler."""
    made: list[Traced] = []

    def install(sampler: Sampler) -> Traced:
        made.append(Traced(sampler))
        return made[0]

    yield install
    for found in made:
        assert found.ledger.open() == []
        found.provider.shutdown()


@pytest.fixture
def metered() -> Iterator[Metered]:
    """A metrics SDK is installed; these are its metrics."""
    found = Metered()
    yield found
    found.provider.shutdown()
