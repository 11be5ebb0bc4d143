"""Counting answers: what voting and weighing have in common."""

from collections.abc import Callable, Mapping, Sequence
from math import isfinite
from typing import Any, Literal

from agentflow.errors import ConfigError, InvalidAnswer
from agentflow.patterns.aggregate import Decision, Given, Panel
from agentflow.patterns.answers import Key, canonical, picker
from agentflow.patterns.votes import Candidate, agreement, tally

Invalid = Literal["drop", "error"]


def count(given: Sequence[Given], key: Key, invalid: Invalid) -> tuple[list[Candidate], dict[int, str]]:
    """Count answers: the candidates, the heaviest first, and the places of those that can't be counted, with reasons.

    Raises:
        InvalidAnswer: None of them can be counted or weighs anything, or one can't and that is an error.
    """
    read = ballot_reader(key)
    void: dict[int, str] = {}
    ballots = []
    for one in given:
        try:
            ballots.append((one.place, *read(one.answer), one.weight))
        except Exception as error:
            void_answer(one, error, invalid, void)
    if not ballots:
        raise InvalidAnswer(f"no answer can be counted: {next(iter(void.values()))}")
    candidates = tally(ballots)
    if not candidates[0].weight:
        names = ", ".join(repr(one.name) for one in given if one.place not in void)
        raise InvalidAnswer(f"none of the answers weighs anything: those of {names}")
    return candidates, void


def elected(
    panel: Panel, best: Candidate, candidates: Sequence[Candidate], void: Mapping[int, str], reason: str
) -> Decision:
    """The decision for a candidate: in the words of the first, in order of declaration, to have said so."""
    first = next(one for one in panel.given if one.place == best.members[0])
    ranked = [best, *(candidate for candidate in candidates if candidate is not best)]
    return Decision(
        answer=best.answer,
        text=first.outcome.text,
        winner=first.place,
        agreement=agreement(ranked),
        candidates=ranked,
        void=void,
        reason=reason,
    )


def ballot_reader(key: Key) -> Callable[[Any], tuple[str, Any]]:
    """Of an answer, what makes it the same as others, and the part of it that counts."""
    pick = picker(key, "key")

    def read(answer: Any) -> tuple[str, Any]:
        value = pick(answer)
        return (value if callable(key) and isinstance(value, str) else canonical(value)), value

    return read


def void_answer(one: Given, error: Exception, invalid: str, void: dict[int, str]) -> None:
    """Note that an answer can't be counted, or fail.

    Raises:
        InvalidAnswer: That is an error here.
    """
    why = str(error) or type(error).__name__
    if invalid == "error":
        raise InvalidAnswer(f"the answer of {one.name!r} can't be used: {why}") from error
    void[one.place] = why


def check_weights(weights: object, agents: Sequence[str], owner: str) -> None:
    """Check that there is a weight for each agent and for nobody else.

    Raises:
        ConfigError: One is missing, unknown, negative or no number, or all are 0.
    """
    if not isinstance(weights, Mapping):
        raise ConfigError(f"{owner}: weights must map the names of agents to numbers, not {weights!r}")
    missing = [name for name in dict.fromkeys(agents) if name not in weights]
    unknown = [name for name in weights if name not in agents]
    if agents and missing:
        raise ConfigError(f"{owner}: there is no weight for {', '.join(map(repr, missing))}")
    if agents and unknown:
        raise ConfigError(f"{owner}: weights name {', '.join(map(repr, unknown))}, who is none of {list(agents)}")
    for name, weight in weights.items():
        if not numeric(weight) or weight < 0:
            raise ConfigError(f"{owner}: the weight of {name!r} must be a number of at least 0, not {weight!r}")
    if not any(weights.values()):
        raise ConfigError(f"{owner}: all weights are 0")


def check_invalid(invalid: object, owner: str) -> None:
    """Check a setting.

    Raises:
        ConfigError: It is neither.
    """
    if invalid not in ("drop", "error"):
        raise ConfigError(f"{owner}: invalid must be 'drop' or 'error', not {invalid!r}")


def whole(value: Any) -> bool:
    """Whether it is a whole number."""
    return isinstance(value, int) and not isinstance(value, bool)


def numeric(value: Any) -> bool:
    """Whether it is a finite number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and isfinite(value)
