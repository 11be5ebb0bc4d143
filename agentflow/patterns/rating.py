"""What judges say: ratings by a rubric, and verdicts, read from whatever form they come in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import fsum, isfinite
from typing import Any

from agentflow.errors import ConfigError, InvalidAnswer
from agentflow.patterns.answers import number, parsed


@dataclass(frozen=True, slots=True)
class Rubric:
    """What is judged, and how much each of it counts.

    Attributes:
        criteria: Name to weight, for instance `{"correctness": 3, "readability": 1}`.
        scale: The best mark; the worst is 0.
    """

    criteria: Mapping[str, float]
    scale: float = 10.0

    def __post_init__(self) -> None:
        weights = list(self.criteria.values()) if isinstance(self.criteria, Mapping) else []
        if not weights or not all(isinstance(name, str) and name for name in self.criteria):
            raise ConfigError(f"Rubric needs criteria, a mapping of names to weights, not {self.criteria!r}")
        if not all(_finite(weight) and weight >= 0 for weight in weights) or not fsum(weights) > 0:
            raise ConfigError(f"Rubric: weights must be numbers of at least 0 and not all 0: {dict(self.criteria)!r}")
        if not _finite(self.scale) or not self.scale > 0:
            raise ConfigError(f"Rubric: scale must be a number above 0, not {self.scale!r}")

    def score(self, marks: Mapping[str, Any]) -> float:
        """The weighted mean of one candidate's marks, on the rubric's scale.

        Raises:
            InvalidAnswer: A criterion has no mark, or one that is off the scale.
        """
        for name in self.criteria:
            mark = marks.get(name)
            if not _finite(mark) or not 0 <= mark <= self.scale:  # type: ignore[operator]  # it is a number
                raise InvalidAnswer(f"criterion {name!r} needs a mark from 0 to {self.scale:g}, not {mark!r}")
        weighed = fsum(weight * float(marks[name]) for name, weight in self.criteria.items())
        return weighed / fsum(self.criteria.values())

    def describe(self) -> str:
        """The rubric in words, for a judge."""
        total = fsum(self.criteria.values())
        lines = [f"- {name} ({weight / total:.0%})" for name, weight in self.criteria.items()]
        return "\n".join([f"Mark each answer from 0 to {self.scale:g} on every criterion:", *lines])


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a judge has found.

    Attributes:
        winner: Place of the best, from 0, among the candidates that were shown.
        scores: One for each candidate; empty where the judge gave none.
        marks: With a rubric: each candidate's marks by criterion.
        reason: In the judge's words.
    """

    winner: int
    scores: tuple[float, ...] = ()
    marks: tuple[Mapping[str, float], ...] = field(default=())
    reason: str = ""


def read_verdict(value: Any, names: Sequence[str], *, rubric: Rubric | None = None, first: int = 0) -> Verdict:
    """A verdict on the candidates `names`, from any form in which functions and agents give one.

    - the winner: its name, or its place counted from `first`;
    - scores: a number for each, in order or by name; with a rubric, a mapping of criteria to marks for each;
    - both: a pair `(winner, scores)`, or a mapping with `winner`, `scores` (or `ratings`) and `reason`;
    - any of that as JSON text, and a `Verdict`; for a lone candidate, its score alone.

    Where no winner is named, the highest score wins, the first of them in order.

    Raises:
        InvalidAnswer: It is none of that, or is about somebody else.
    """
    if isinstance(value, str) and value.strip() in names:
        return Verdict(list(names).index(value.strip()))
    value = parsed(value)
    if len(names) == 1 and (alone := number(value)) is not None:
        return Verdict(0, (alone,))
    winner: Any = None
    scores: Any = None
    reason = ""
    if isinstance(value, Verdict):
        first, winner, reason = 0, value.winner, value.reason
        scores = value.marks or value.scores or None
    elif isinstance(value, Mapping) and set(value) != set(names) and {"winner", "scores", "ratings"} & set(value):
        winner = value.get("winner")
        scores = value.get("scores", value.get("ratings"))
        reason = str(value.get("reason") or "")
    elif isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], (Mapping, list, tuple)):
        winner, scores = value
    elif isinstance(value, (Mapping, list, tuple)):
        scores = value
    else:
        winner = value
    if winner is None and scores is None:
        raise InvalidAnswer(f"a verdict must name a winner or give scores, not {str(value)[:200]!r}")
    marks: tuple[Mapping[str, float], ...] = ()
    numbers: tuple[float, ...] = ()
    if scores is not None:
        rows = _by_candidate(scores, names, first)
        if rubric is not None and not all(_finite(row) for row in rows):
            marks = tuple(_marks(row, rubric) for row in rows)
            numbers = tuple(rubric.score(row) for row in marks)
        elif all(_finite(row) for row in rows):
            numbers = tuple(float(row) for row in rows)
        else:
            raise InvalidAnswer(f"every score must be a finite number: {str(scores)[:200]}")
    if winner is None:
        return Verdict(numbers.index(max(numbers)), numbers, marks, reason)
    return Verdict(_place(winner, names, first), numbers, marks, reason)


def _finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and isfinite(value)


def _marks(row: Any, rubric: Rubric) -> Mapping[str, float]:
    if not isinstance(row, Mapping):
        raise InvalidAnswer(f"with a rubric every candidate needs a mark for each criterion, not {str(row)[:200]!r}")
    return {name: row.get(name) for name in rubric.criteria}  # type: ignore[misc]  # `score` looks at them


def _by_candidate(scores: Any, names: Sequence[str], first: int) -> list[Any]:
    """What was given for each candidate, in order."""
    if isinstance(scores, Mapping):
        rows = {_place(name, names, first): row for name, row in scores.items()}
        if len(rows) != len(names):
            missing = [name for place, name in enumerate(names) if place not in rows]
            raise InvalidAnswer(f"there is no score for {', '.join(map(repr, missing))}")
        return [rows[place] for place in range(len(names))]
    if not isinstance(scores, (list, tuple)) or len(scores) != len(names):
        raise InvalidAnswer(f"{len(names)} candidates need {len(names)} scores, not {str(scores)[:200]}")
    return list(scores)


def _place(who: Any, names: Sequence[str], first: int) -> int:
    """The place of a candidate that is told by its name or number."""
    if isinstance(who, str):
        if who.strip() in names:
            return list(names).index(who.strip())
        if who.strip().isdecimal():
            who = int(who)
    if isinstance(who, float) and who.is_integer():
        who = int(who)
    if isinstance(who, int) and not isinstance(who, bool) and first <= who < first + len(names):
        return who - first
    raise InvalidAnswer(f"there is no candidate {str(who)[:100]!r}; there are {', '.join(map(repr, names))}")
