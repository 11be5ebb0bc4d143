"""When two answers say the same, and how alike they are."""

import json
import math

import pytest
from hypothesis import example, given, strategies as st

from agentflow import Data, InvalidAnswer, Outcome
from agentflow.events import Event
from agentflow.patterns.answers import answer_of, canonical, field_of, gist, number, parsed, similarity

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize(
    "same",
    [
        [
            "42",
            42,
            42.0,
            " 42. ",
            "**42**",
            "4.2e1",
            "The answer is 42.",
            "Let me see.\n\nFinal answer: **42**\n",
            r"So \boxed{42}",
        ],
        ["1,000", "1000", 1000, "1e3", "+1000.00", "ANSWER: 1,000"],
        ["Paris", "paris", "PARIS.", '"Paris"', "`paris`", "The answer is: Paris!", "ｐａｒｉｓ", "Answer - Paris"],
        ["yes", "Yes.", "YES!", "*yes*"],
        [True, "true", "True."],
        [
            "-42",
            -42,
            "Answer: -42",
            "The answer is −42.",
            "**Answer:** *-42*",
            "Answer = -42",
            "Answer - -42",
            "My answer is: -42",
        ],
        [0.5, ".5", "0.50", "Answer: .5", "(.5)"],
        ["0", "-0", 0.0, "0.00"],
        [{"a": 1, "b": ["X"]}, '{"b": ["x"], "a": 1.0}', '```json\n{"a": "1", "b": ["x."]}\n```'],
        ["the quick  fox", "The quick fox", "the\nquick fox."],
    ],
)
def test_answers_that_say_the_same_are_one(same: list[object]) -> None:
    assert len({canonical(answer) for answer in same}) == 1
    assert all(similarity(one, other) == 1.0 for one in same for other in same)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("42", "-42"),
        ("5", "5%"),
        ("yes", "no"),
        ("1.0", "10"),
        (10**40, 10**40 + 1),
        ("9" * 50, "9" * 49 + "8"),
        ("", "0"),
        ("?", "!"),
        ({"a": 1}, {"a": 2}),
        ("[a]", ["a", "b"]),
    ],
)
def test_answers_that_differ_are_two(one: object, other: object) -> None:
    assert canonical(one) != canonical(other)


@given(values)
def test_json_of_a_value_says_the_same_as_the_value(value: object) -> None:
    if isinstance(value, (list, dict)):
        assert canonical(json.dumps(value)) == canonical(value)


@given(st.text())
@example("0\f")
def test_what_is_canonical_stays_as_it_is(text: str) -> None:
    key = canonical(text)
    assert canonical(key) == key


@given(values, values)
def test_similarity_is_symmetric_and_from_0_to_1(one: object, other: object) -> None:
    value = similarity(one, other)
    assert 0.0 <= value <= 1.0
    assert similarity(other, one) == value
    assert similarity(one, one) == 1.0


def test_similarity_grows_with_the_words_in_common_and_with_how_close_numbers_are() -> None:
    text = "ship the release on monday"
    assert similarity(text, "ship the release on friday") > similarity(text, "ship nothing") > similarity(text, "no")
    assert similarity("ab cd", "xy") == 0.0
    assert similarity(100, 99) > similarity(100, 50) > similarity(100, -100) == 0.0


@pytest.mark.parametrize(
    ("answer", "expected"),
    [(3, 3.0), ("3.5", 3.5), ("about 3", None), ("1,234.5", 1234.5), (True, None), (None, None), ("nan", None),
     ("1e999", None), (math.inf, None), ("The answer is 7.", 7.0), ({"a": 1}, None), (10**400, None)],
)  # fmt: skip
def test_numbers_are_read_from_what_is_one(answer: object, expected: float | None) -> None:
    assert number(answer) == expected


def test_the_gist_is_what_a_text_says_is_its_answer() -> None:
    assert gist("6 times 7.\nThe answer is 42.") == "42"
    assert gist(r"\boxed{41} no, \boxed{42}") == "42"
    assert gist(r"So \boxed{\frac{1}{2}}.") == r"\frac{1}{2}"
    assert gist("Hm.\n**Answer:**\n\n42\n\nSince it is so.") == "42"
    assert gist("Answer:\n```\nx = 1\ny = 2\n```") == "x = 1\ny = 2"
    assert gist("The answer is:") == "The answer is:"
    assert gist("Answer the question first.") == "Answer the question first."
    assert gist("Because the answer matters (a lot).") == "Because the answer matters (a lot)."
    assert gist({"answer": 1}) == {"answer": 1}


def test_a_field_is_read_from_data_and_from_json_text() -> None:
    assert field_of({"label": "A"}, "label") == "A"
    assert field_of('Here:\n```json\n{"label": "A"}\n```', "label") == "A"
    with pytest.raises(InvalidAnswer, match="no field 'label'"):
        field_of("A", "label")


def test_what_json_does_not_know_counts_by_its_words() -> None:
    assert canonical({"a": {1}}) == canonical({"a": "{1}"})
    assert canonical("9" * 500) != canonical("9" * 499)
    assert canonical("1e9999") == canonical("10e9998")


@pytest.mark.parametrize(
    "piece", [" ", "\n", "*", "answer ", "answer: \n", "\\boxed{", "```\n", "{", "[", "1", "1,", "`", "a "]
)
def test_hostile_text_is_read_too(piece: str) -> None:
    """Reading it is linear: a pattern that goes back and forth would be at it for minutes."""
    text = piece * (200_000 // len(piece)) + "```x"
    assert canonical(text)
    assert similarity(text, text) == 1.0


def test_text_that_only_looks_like_json_is_text() -> None:
    for text in ("{not json", "[1, 2", '"open', "{}}", "[" * 5000, "```\nplain\n```"):
        assert parsed(text) == text


def test_the_answer_of_a_pattern_in_a_pattern_is_what_that_answered() -> None:
    event = Event(parts=("words", Data({"answer": "42", "metrics": {}}, "agentflow.ScatterGatherResult")))
    assert answer_of(Outcome(agent="a", branch="a", status="ok", said=event)) == "42"
    plain = Event(parts=("words", Data({"answer": "42"})))
    assert answer_of(Outcome(agent="a", branch="a", status="ok", said=plain)) == {"answer": "42"}
    assert answer_of(Outcome(agent="a", branch="a", status="ok", said=Event(parts=("words",)))) == "words"
    assert answer_of(Outcome(agent="a", branch="a", status="ok")) is None
