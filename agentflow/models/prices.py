"""What a call costs: by a price that you give, or by the tables of `genai-prices` (extra `prices`)."""

import logging
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from anyio.to_thread import run_sync

from agentflow.errors import ConfigError
from agentflow.events import Usage

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """US dollars for a million tokens.

    Attributes:
        input: Of the prompt, as far as it wasn't cached.
        output: Of the answer, thoughts included.
        cache_read: Of what was read from the provider's cache; by default as `input`.
        cache_write: Of what was written to it; by default as `input`.
    """

    input: float
    output: float
    cache_read: float | None = None
    cache_write: float | None = None

    def __post_init__(self) -> None:
        for value in (self.input, self.output, self.cache_read, self.cache_write):
            if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 0):
                raise ConfigError(f"a Price is in dollars for a million tokens, 0 or more: {self!r}")

    def of(self, usage: Usage) -> float:
        """What this usage costs."""
        read, write = usage.cache_read_tokens, usage.cache_write_tokens
        plain = max(0, usage.input_tokens - read - write)
        at_read = self.input if self.cache_read is None else self.cache_read
        at_write = self.input if self.cache_write is None else self.cache_write
        return (plain * self.input + read * at_read + write * at_write + usage.output_tokens * self.output) / 1e6


async def cost_of(usage: Usage, provider: str, model: str, price: Price | None = None) -> float:
    """US dollars, as far as a price is known; else 0."""
    if price is not None:
        return price.of(usage)
    if not model or provider in ("", "agentflow") or not _installed():  # ours are the models of tests
        return 0.0
    tables = _tables() if _loaded() else await run_sync(_load)
    return _look_up(tables, usage, provider, model)


@cache
def _installed() -> bool:
    return find_spec("genai_prices") is not None


@cache
def _tables() -> Any:
    return import_module("genai_prices")


def _loaded() -> bool:
    return _tables.cache_info().currsize > 0


def _load() -> Any:
    """Import the tables and have them parsed: 150 ms that other branches needn't wait for."""
    tables = _tables()
    _look_up(tables, Usage(1), "anthropic", "claude-haiku-4-5")
    return tables


def _look_up(tables: Any, usage: Usage, provider: str, model: str) -> float:
    counted = tables.Usage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_tokens=usage.cache_write_tokens,
    )
    try:
        return float(tables.calc_price(counted, model, provider_id=provider).total_price)
    except LookupError:
        _tell_once(provider, model)
        return 0.0


@cache
def _tell_once(provider: str, model: str) -> None:
    logger.warning(
        "no price is known for model %r of %r: its calls count as free (give it price=Price(...))", model, provider
    )
