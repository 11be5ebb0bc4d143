"""When a straggler gets a duplicate."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from agentflow.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Hedge:
    """Start a duplicate of a branch that takes longer than nearly all of its siblings, and take the first.

    Costs calls to save time; only for work that may be done twice. Source: Dean and Barroso, The tail at scale, 2013.

    Attributes:
        percentile: Share of the siblings that have ended whose time a branch may take.
        factor: Times that; a little more than 1, so that of many that end together none is called slow.
        after: Share of the branches, those that failed aside, that must have ended before anyone is called slow. So by
            default there must be four at least.
    """

    percentile: float = 0.95
    factor: float = 1.1
    after: float = 0.75

    def __post_init__(self) -> None:
        for name in ("percentile", "after"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= 1:
                raise ConfigError(f"Hedge({name}=...) must be above 0 and at most 1, not {value!r}")
        if isinstance(self.factor, bool) or not isinstance(self.factor, (int, float)) or not self.factor >= 1:
            raise ConfigError(f"Hedge(factor=...) must be a number of at least 1, not {self.factor!r}")

    def patience(self, durations: Sequence[float], siblings: int) -> float | None:
        """Seconds that a branch may take, given the times of those that have ended; `None` while it can't be said."""
        if not durations or len(durations) < self.after * siblings:
            return None
        return percentile(durations, self.percentile) * self.factor


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest of `values` that at least this share of them doesn't exceed."""
    return sorted(values)[max(0, ceil(share * len(values)) - 1)]
