"""A tree of reductions: whatever order pieces end in, the same groups are reduced, and none that isn't complete."""

import random
from itertools import count

import pytest
from hypothesis import given, settings, strategies as st

from agentflow.patterns._tree import Reduction, ReductionTree


def by_level(values: list[str | None], fan_in: int) -> str:
    """What all of it comes to, level by level: `(ab)` is a reduction of a and b; a lone value passes as it is."""
    while len(values) > fan_in:
        values = [join(values[at : at + fan_in]) for at in range(0, len(values), fan_in)]
    return "".join(value for value in values if value is not None)


def join(group: list[str | None]) -> str | None:
    there = [value for value in group if value is not None]
    return f"({''.join(there)})" if len(there) > 1 else there[0] if there else None


def play(pieces: list[str | None], fan_in: int | None, rng: random.Random) -> tuple[Reduction, int]:
    """Feed, settle and reduce in any order; gives what is left and the most values that were held at once."""
    tree, at_work = ReductionTree(fan_in), []
    feeding, most = iter(pieces), 0
    over = False
    while not over or at_work or tree.ready:
        choice = rng.choice(
            [*(["feed"] if not over else []), *(["end"] if at_work else []), *(["go"] if tree.ready else [])]
        )
        if choice == "feed":
            value = next(feeding, count)
            if value is count:
                over = True
                tree.finish()
            else:
                at_work.append((0, tree.feed(), value))
        elif choice == "end":
            level, place, value = at_work.pop(rng.randrange(len(at_work)))
            tree.settle(level, place, *([] if value is None else [value]))
        else:
            job = tree.ready.popleft()
            assert len(job.values) >= 2
            assert list(job.values) == sorted(job.values)
            assert len(job.values) <= job.size <= (fan_in or job.size)
            at_work.append((job.level, job.place, f"({''.join(job.values.values())})"))
        most = max(most, sum(len(group.values) for level in tree._levels for group in level.values()))
    return tree.rest(), most


@settings(max_examples=300, deadline=None)
@given(st.lists(st.booleans(), max_size=40), st.integers(2, 5), st.randoms(use_true_random=False))
def test_the_order_of_ending_changes_nothing(went_well: list[bool], fan_in: int, rng: random.Random) -> None:
    pieces = [chr(97 + place % 26) if well else None for place, well in enumerate(went_well)]
    last, _ = play(pieces, fan_in, rng)
    assert "".join(last.values.values()) == by_level(list(pieces), fan_in)
    assert len(last.values) <= fan_in


@given(st.lists(st.booleans(), max_size=20), st.randoms(use_true_random=False))
def test_without_a_fan_in_all_is_left_for_the_end(went_well: list[bool], rng: random.Random) -> None:
    pieces = [str(place) if well else None for place, well in enumerate(went_well)]
    last, _ = play(pieces, None, rng)
    assert last.values == {place: piece for place, piece in enumerate(pieces) if piece is not None}
    assert last.size == len(pieces)


@pytest.mark.parametrize("pieces", [1_000, 10_000])
def test_what_is_held_does_not_grow_with_the_pieces(pieces: int) -> None:
    tree, most = ReductionTree(10), 0
    for _ in range(pieces):
        tree.settle(0, tree.feed(), "x")
        while tree.ready:
            job = tree.ready.popleft()
            tree.settle(job.level, job.place, "y")
        most = max(most, sum(len(group.values) for level in tree._levels for group in level.values()))
    assert most <= 10 * 5  # ten a level
