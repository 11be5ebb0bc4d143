"""The switch that keeps tests from talking to real models."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from agentflow.models.base import ALLOWED


@contextmanager
def forbid_model_requests() -> Iterator[None]:
    """Inside the block, whoever would ask a real model gets a `ConfigError`; fakes and this machine may be asked.

    The same as `AGENTFLOW_ALLOW_MODEL_REQUESTS=0` in the environment, which also holds for processes started there.
    """
    before = os.environ.get(ALLOWED)
    os.environ[ALLOWED] = "0"
    try:
        yield
    finally:
        if before is None:
            del os.environ[ALLOWED]
        else:
            os.environ[ALLOWED] = before
