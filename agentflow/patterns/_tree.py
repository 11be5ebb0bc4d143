"""Values reduced group by group until few enough are left; which groups are ready is known as soon as it can be."""

from collections import deque
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Reduction:
    """Values to be made one.

    Attributes:
        level: Of the value that it gives: 1 is made of mapped pieces.
        place: Of that value in its level.
        values: What there is, by place in the level below; what failed is missing.
        size: How many there would be if none had failed.
    """

    level: int
    place: int
    values: dict[int, Any]
    size: int


@dataclass(slots=True)
class _Group:
    values: dict[int, Any] = field(default_factory=dict)
    settled: int = 0


class ReductionTree:
    """Groups of `fan_in` neighbours are reduced, then groups of what came of them, until at most `fan_in` are left.

    Tell it how many pieces there are so far, when no more will come, and how each ended. What a group needs is kept
    until the group is reduced, so memory is bounded by what is at work, not by how many pieces there are.

    Args:
        fan_in: At least 2; `None` keeps all for the end.

    Attributes:
        ready: Groups that are complete.
        fed: How many pieces there are so far.
    """

    def __init__(self, fan_in: int | None) -> None:
        self.fan_in = fan_in
        self.ready: deque[Reduction] = deque()
        self._levels: list[dict[int, _Group]] = [{}]
        self.fed = 0
        self._over = False

    def feed(self) -> int:
        """There is a piece more; gives its place."""
        self.fed += 1
        if self.fan_in is not None:
            span = self.fan_in
            level = 0
            while span < self.fed:  # the first group of this level is not the last of all: it may be reduced
                if span == self.fed - 1:
                    self._advance(level, 0)
                span, level = span * self.fan_in, level + 1
        return self.fed - 1

    def finish(self) -> None:
        """No piece will follow."""
        self._over = True
        level = 0
        while self.fan_in is not None and self.width(level) > self.fan_in:
            self._advance(level, (self.width(level) - 1) // self.fan_in)
            level += 1

    def width(self, level: int) -> int:
        """How many values a level has, of the pieces that there are so far."""
        width = self.fed
        for _ in range(level):
            width = -(-width // (self.fan_in or width or 1))
        return width

    def settle(self, level: int, place: int, *values: Any) -> None:
        """A piece (level 0) or a reduction has ended, and has given a value, or none."""
        self._advance(level, self._put(level, place, values))

    def _put(self, level: int, place: int, values: tuple[Any, ...]) -> int:
        while len(self._levels) <= level:
            self._levels.append({})
        number = place // self.fan_in if self.fan_in is not None else 0
        group = self._levels[level].setdefault(number, _Group())
        group.settled += 1
        for value in values:
            group.values[place] = value
        return number

    def _advance(self, level: int, number: int) -> None:
        """Have a group reduced if it is complete; a single value, or none, is passed on as it is."""
        while (passed := self._look(level, number)) is not None:
            level, number = level + 1, self._put(level + 1, number, passed)

    def _look(self, level: int, number: int) -> tuple[Any, ...] | None:
        """If a group is complete, have it reduced; if there is one value, or none, gives that instead."""
        fan_in = self.fan_in
        if fan_in is None or level >= len(self._levels) or self.fed <= fan_in ** (level + 1):
            return None  # nothing to be done before the end
        group = self._levels[level].get(number)
        size = fan_in if not self._over else min(fan_in, self.width(level) - number * fan_in)
        if group is None or group.settled < size:
            return None
        del self._levels[level][number]
        if len(group.values) < 2:
            return tuple(group.values.values())
        self.ready.append(Reduction(level + 1, number, dict(sorted(group.values.items())), size))
        return None

    def rest(self) -> Reduction:
        """What is left for the end, once all has been settled."""
        level = 0
        while self.fan_in is not None and self.width(level) > self.fan_in:
            level += 1
        group = self._levels[level].get(0, _Group()) if level < len(self._levels) else _Group()
        return Reduction(level + 1, 0, dict(sorted(group.values.items())), self.width(level))
