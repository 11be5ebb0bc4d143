"""Verdicts in every form that judges give them, and nonsense."""

import pytest

from agentflow import ConfigError, InvalidAnswer, Rubric, Verdict
from agentflow.patterns.rating import read_verdict

NAMES = ["ann", "bob", "coder#2"]


@pytest.mark.parametrize(
    ("value", "winner", "scores"),
    [
        (1, 1, ()),
        ("bob", 1, ()),
        (" coder#2 ", 2, ()),
        ([1, 3, 2], 1, (1, 3, 2)),
        ([3, 3, 1], 0, (3, 3, 1)),
        ((2, {0: 1, 1: 2, 2: 3}), 2, (1, 2, 3)),
        ((0, [0.5, 1, 2]), 0, (0.5, 1, 2)),
        ({"ann": 1, "bob": 2, "coder#2": 9}, 2, (1, 2, 9)),
        ({"winner": "bob", "reason": "short"}, 1, ()),
        ({"scores": {"bob": 1, "ann": 5, "coder#2": 0}}, 0, (5, 1, 0)),
        ({"ratings": [1, 2, 3]}, 2, (1, 2, 3)),
        ('{"winner": "ann", "scores": [1, 2, 3]}', 0, (1, 2, 3)),
        ('Sure:\n```json\n{"winner": 2}\n```', 2, ()),
        (Verdict(1, (1.0, 2.0, 0.0)), 1, (1, 2, 0)),
    ],
)
def test_a_verdict_is_read_in_any_form(value: object, winner: int, scores: tuple[float, ...]) -> None:
    verdict = read_verdict(value, NAMES)
    assert (verdict.winner, verdict.scores) == (winner, scores)


def test_an_agent_counts_from_one() -> None:
    assert read_verdict({"winner": 1}, NAMES, first=1).winner == 0
    assert read_verdict({"winner": "3"}, NAMES, first=1).winner == 2
    assert read_verdict(Verdict(1), NAMES, first=1).winner == 1
    with pytest.raises(InvalidAnswer, match="no candidate '0'"):
        read_verdict({"winner": 0}, NAMES, first=1)


@pytest.mark.parametrize("value", [0.9, "0.9", [0.9], {"ann": 0.9}, {"scores": [0.9]}], ids=repr)
def test_a_lone_candidate_may_get_a_bare_score(value: object) -> None:
    assert read_verdict(value, ["ann"]) == Verdict(0, (0.9,))


def test_candidates_may_be_called_like_fields() -> None:
    assert read_verdict({"winner": 1, "scores": 2}, ["winner", "scores"]).winner == 1


@pytest.mark.parametrize(
    "nonsense",
    [None, "I like them all", "dave", 3, -1, True, 1.5, [], [1, 2], [1, 2, "x"], [1, 2, float("nan")], [1, 2, True], {},
     {"reason": "x"}, {"ann": 1}, {"ann": 1, "bob": 2, "dave": 3}, (5, [1, 2, 3]), {"scores": "high"},
     {"winner": None, "scores": None}, object(),
     {"winner": "eve"}],
)  # fmt: skip
def test_nonsense_is_an_error_that_says_what_was_said(nonsense: object) -> None:
    with pytest.raises(InvalidAnswer):
        read_verdict(nonsense, NAMES)


def test_a_rubric_weighs_its_criteria() -> None:
    rubric = Rubric({"correct": 3, "short": 1}, scale=5)
    value = {
        "ann": {"correct": 5, "short": 1},
        "bob": {"correct": 4, "short": 5},
        "coder#2": {"correct": 0, "short": 0},
    }
    verdict = read_verdict(value, NAMES, rubric=rubric)
    assert verdict.scores == (4.0, 4.25, 0.0)
    assert verdict.winner == 1
    assert verdict.marks[0] == {"correct": 5, "short": 1}
    assert "correct (75%)" in rubric.describe()
    assert "from 0 to 5" in rubric.describe()


@pytest.mark.parametrize(
    "marks", [{}, {"correct": 6, "short": 1}, {"correct": -1, "short": 1}, {"correct": "5", "short": 1}, 3]
)
def test_a_mark_that_is_missing_or_off_the_scale_is_an_error(marks: object) -> None:
    with pytest.raises(InvalidAnswer):
        read_verdict(
            [marks, {"correct": 1, "short": 1}], ["a", "b"], rubric=Rubric({"correct": 1, "short": 1}, scale=5)
        )


@pytest.mark.parametrize(
    "settings",
    [{"criteria": {}}, {"criteria": {"a": -1}}, {"criteria": {"a": 0}}, {"criteria": {"": 1}}, {"criteria": ["a"]},
     {"criteria": {"a": 1}, "scale": 0}, {"criteria": {"a": float("nan")}}],
)  # fmt: skip
def test_a_rubric_that_can_not_work_is_refused(settings: dict) -> None:
    with pytest.raises(ConfigError, match="Rubric"):
        Rubric(**settings)
