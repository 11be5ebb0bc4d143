"""What theory says: accuracy and calls of each aggregator, exactly, for voters of known accuracy and correlation.

Voters choose between right and wrong. Each is right with probability `p`. With probability `r` a voter takes over an
opinion that all share (the same training data, the same trap in the question), else it has one of its own; the
correlation of any two is then `r * r`. Given the shared opinion voters are independent, so everything below is worked
out for independent ones and mixed.
"""

from collections.abc import Callable, Sequence
from functools import cache
from itertools import product
from math import comb, fsum, log, prod

from agentflow.patterns.votes import lead_confidence

Rule = Callable[[int, int, int], bool]
"""Given the votes for the first, for the second, and those still out: whether to stop."""


def correlated(p: float, r: float, f: Callable[[float], tuple[float, float]]) -> tuple[float, float]:
    """Accuracy and calls with a shared opinion, from those of independent voters."""
    if not r:
        return f(p)
    right, wrong = f(r + (1 - r) * p), f((1 - r) * p)
    return p * right[0] + (1 - p) * wrong[0], p * right[1] + (1 - p) * wrong[1]


def majority(p: float, n: int) -> float:
    """Condorcet: that more than half of `n` are right; a tie goes to either, half of the time."""
    return fsum(comb(n, k) * p**k * (1 - p) ** (n - k) * _won(2 * k - n) for k in range(n + 1))


def ruin(p: float, k: int) -> tuple[float, float]:
    """Ahead by `k` with no cap on calls: the gambler's ruin, and Wald's sequential test."""
    q = 1 - p
    if p == q:
        return 0.5, float(k * k)
    accuracy = p**k / (p**k + q**k)
    return accuracy, k * (2 * accuracy - 1) / (p - q)


def sequential(p: float, n: int, stop: Rule) -> tuple[float, float]:
    """Accuracy and expected calls of asking one after the other, at most `n`, until a rule says stop."""

    @cache
    def value(right: int, wrong: int) -> tuple[float, float]:
        left = n - right - wrong
        if not left or (right + wrong and stop(max(right, wrong), min(right, wrong), left)):
            return _won(right - wrong), 0.0
        (a, x), (b, y) = value(right + 1, wrong), value(right, wrong + 1)
        return p * a + (1 - p) * b, 1 + p * x + (1 - p) * y

    return value(0, 0)


def cannot_change(first: int, second: int, left: int) -> bool:
    """The full vote, ended as soon as nothing can change it."""
    return first - second > left


def ahead_by(k: int) -> Rule:
    """Ahead by `k`."""
    return lambda first, second, left: first - second >= k or cannot_change(first, second, left)


def sure(confidence: float) -> Rule:
    """Adaptive-Consistency: the posterior that the first is the likelier answer."""
    return lambda first, second, left: (
        lead_confidence(first, second) >= confidence or cannot_change(first, second, left)
    )


def quorum(k: int) -> Rule:
    """The first to have `k` votes, or the end of hope for that."""
    return lambda first, second, left: first >= k or first + left < k


def log_odds(accuracies: Sequence[float]) -> float:
    """Accuracy of the vote that weighs independent voters by `log(p / (1 - p))`."""
    return weighted(accuracies, [log(p / (1 - p)) for p in accuracies])


def weighted(accuracies: Sequence[float], weights: Sequence[float]) -> float:
    """Accuracy of a weighted vote of independent voters, over all ways in which they may vote."""
    total = []
    for votes in product((1, -1), repeat=len(accuracies)):
        chance = prod(p if vote > 0 else 1 - p for p, vote in zip(accuracies, votes, strict=True))
        total.append(chance * _won(fsum(weight * vote for weight, vote in zip(weights, votes, strict=True))))
    return fsum(total)


def _won(lead: float) -> float:
    """1 for a lead, a half for a tie."""
    return 1.0 if lead > 1e-12 else 0.5 if lead > -1e-12 else 0.0


def best_of(p: float, n: int, judge: float) -> float:
    """A judge who finds a right answer among `n`, if there is one, so often."""
    return judge * (1 - (1 - p) ** n)


def mean_error(n: int, correlation: float) -> float:
    """Root mean square error of the mean of `n` estimates, in units of that of one."""
    return (correlation + (1 - correlation) / n) ** 0.5


def coverage(p: float, n: int) -> float:
    """The share of facts that at least one of `n` has found, each found by each with probability `p`."""
    return 1 - (1 - p) ** n
