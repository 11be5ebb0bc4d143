"""How good an answer is."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from agentflow.errors import ConfigError
from agentflow.outcome import Outcome
from agentflow.patterns.judge import Judge

Quality = Judge | Callable[[Any, Sequence[Outcome]], float | Awaitable[float]]
"""A judge with a rubric, or a function (async ones too) of the answer and the outcomes, that gives a number."""


def check_quality(quality: object, owner: str) -> None:
    """Check a setting.

    Raises:
        ConfigError: It is neither.
    """
    if isinstance(quality, Judge):
        quality.check(f"{owner}: quality", (), 0, False)
    elif quality is not None and not callable(quality):
        raise ConfigError(f"{owner}: quality must be a Judge or a function of the answer and outcomes, not {quality!r}")
