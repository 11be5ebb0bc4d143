"""For pytest: no test talks to a real model by accident.

Put `pytest_plugins = ["agentflow.testing.plugin"]` in the `conftest.py` at the root of your tests. A test that is to
talk to a real model says so: `@pytest.mark.real_models`.
"""

from collections.abc import Iterator

import pytest

from agentflow.testing.requests import forbid_model_requests


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line("markers", "real_models: may send requests to real models")


@pytest.fixture(autouse=True)
def no_real_model_requests(request: pytest.FixtureRequest) -> Iterator[None]:
    """Forbid requests to real models, unless the test is marked with `real_models`."""
    if request.node.get_closest_marker("real_models") is not None:
        yield
        return
    with forbid_model_requests():
        yield
