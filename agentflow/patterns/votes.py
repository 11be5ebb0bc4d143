"""Votes: how they are counted, and when no more of them are needed. Pure functions, from no one's point of view."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from math import comb, fsum
from typing import Any


@dataclass(slots=True)
class Candidate:
    """An answer that stands for election.

    Attributes:
        key: What makes answers the same.
        answer: As the first to give it, in order of declaration, said it.
        members: Who gave it: places in the order of declaration.
        weight: Of all of them together.
    """

    key: str
    answer: Any
    members: list[int] = field(default_factory=list)
    weight: float = 0.0


@lru_cache(maxsize=1024)
def exact(weight: float) -> Fraction:
    """A weight as it is written, so that sums aren't rounded: 0.1 and 0.2 are 0.3, in any order."""
    return Fraction(str(weight))


def tally(ballots: Iterable[tuple[int, str, Any, float]]) -> list[Candidate]:
    """Count ballots `(place, key, answer, weight)`: the heaviest first, among equals the first in declaration order.

    The order in which ballots come makes no difference.
    """
    found: dict[str, Candidate] = {}
    sums: dict[str, Fraction] = {}
    for place, key, answer, weight in sorted(ballots, key=lambda ballot: ballot[0]):
        candidate = found.setdefault(key, Candidate(key, answer))
        candidate.members.append(place)
        sums[key] = sums.get(key, Fraction()) + exact(weight)
    for key, candidate in found.items():
        candidate.weight = float(sums[key])
    return sorted(found.values(), key=lambda candidate: (-sums[candidate.key], candidate.members[0]))


def agreement(candidates: list[Candidate]) -> float | None:
    """The share of the first candidate in all weight; `None` where there is none."""
    total = fsum(candidate.weight for candidate in candidates)
    return candidates[0].weight / total if total > 0 else None


def lead_confidence(first: int, second: int) -> float:
    """How sure it is, given so many votes for the first and the second answer, that the first is the likelier one.

    The posterior probability of `p > 1/2` under a uniform prior, where p is the first answer's share of the votes of
    both: `1 - I(1/2; first + 1, second + 1)`, which for whole numbers is the sum below, computed exactly.

    Source: the beta criterion of Adaptive-Consistency, https://arxiv.org/abs/2305.11860.
    """
    n = first + second + 1
    return float(sum(comb(n, k) for k in range(first + 1)) / (1 << n))


class Race:
    """An election as its votes come in: who leads, by how much. A vote costs the same however many there were."""

    __slots__ = ("best", "counts", "leader", "second")

    def __init__(self) -> None:
        self.counts: dict[str, Fraction] = {}
        self.leader = ""
        self.best = Fraction()
        self.second = Fraction()

    def add(self, key: str, weight: float = 1.0) -> None:
        """A vote more."""
        count = self.counts[key] = self.counts.get(key, Fraction()) + exact(weight)
        if key == self.leader:
            self.best = count
        elif count > self.best:
            self.leader, self.best, self.second = key, count, self.best
        else:
            self.second = max(self.second, count)

    @property
    def lead(self) -> Fraction:
        """How far the first is ahead of the second."""
        return self.best - self.second

    def decided(self, pending: Fraction) -> bool:
        """Whether votes of this weight that are still to come can't change who wins, whatever they say."""
        return self.lead > pending
