"""What an agent has answered, and when two answers say the same."""

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from decimal import Context, Decimal
from functools import lru_cache
from typing import Any

from agentflow.content import Data
from agentflow.errors import ConfigError, InvalidAnswer
from agentflow.events import Event
from agentflow.outcome import Outcome

Key = Callable[[Any], Any] | str | None
"""What of an answer counts: a function of it, or the name of a field; `None` is all of it."""

RESULT = "agentflow."
"""What the schema names of patterns' results begin with; such a value's `answer` is what the pattern answered."""

_NUMBER = re.compile(r"[+-]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:e[+-]?\d{1,4})?|[+-]?\.\d+", re.IGNORECASE)
_FENCE = re.compile(r"```[\w-]*\n(.*?)\n?```", re.DOTALL)
_MARKED = re.compile(
    r"[\W_]*(?:(?:so|thus|therefore|hence),?\s+)?(?:(?:the|my)\s+)?(?:final\s+)?answer\b"
    r"""[\s*_`"']*(?:is\b\s*:?|[:=–—]|-(?=\s))[\s*_`"']*""",  # what stands between it and the answer is no minus
    re.IGNORECASE,
)
_BOXED = re.compile(r"\\boxed\{((?:[^{}]|\{[^{}]*\})*)\}")
_WORD = re.compile(r"\w+")
_SHORT = 200
_EXACT = Context(prec=1000)  # no digit is rounded away
_EDGES = " \t\r\n.,;:!?\"'`*_“”‘’«»()"


def answer_of(outcome: Outcome) -> Any:
    """What a turn answered: its last structured value, else its last words; of a pattern, what that answered."""
    said = outcome.said
    if isinstance(said, tuple):
        return [answer_of(branch) for branch in said if branch.ok]
    if isinstance(said, Event):
        for part in reversed(said.parts):
            if type(part) is Data:
                if (part.schema_name or "").startswith(RESULT) and isinstance(part.value, Mapping):
                    return part.value.get("answer")
                return part.value
    return outcome.output


def answered(outcome: Outcome) -> bool:
    """Whether it went well and said something."""
    return outcome.ok and outcome.said is not None


def canonical(answer: Any) -> str:
    r"""A text that is equal for answers that say the same: what votes are counted by.

    Case, white space, punctuation and markdown around it, and the way a number is written don't matter. Of a longer
    text with a line that says `answer: ...` or a `\boxed{...}`, that is all that counts. Text that is JSON counts as
    its value; the order of keys doesn't matter.
    """
    if isinstance(answer, str):
        return _canonical_short(answer) if len(answer) <= _SHORT else _canonical_text(answer)
    normal = _normal(answer)
    return normal if isinstance(normal, str) else json.dumps(normal, sort_keys=True, ensure_ascii=False)


def similarity(one: Any, other: Any) -> float:
    """How alike two answers are, from 0 to 1: numbers by how close they are, all else by the words they share.

    Answers that say the same have 1. It is symmetric, and takes time linear in their length.
    """
    if canonical(one) == canonical(other):
        return 1.0
    a, b = number(one), number(other)
    if a is not None and b is not None:
        return max(0.0, 1.0 - abs(a - b) / max(abs(a), abs(b)))
    words, others = Counter(_words(one)), Counter(_words(other))
    size = words.total() + others.total()
    return 2 * (words & others).total() / size if size else 0.0


def number(answer: Any) -> float | None:
    """The number that an answer is, if it is a finite one."""
    if isinstance(answer, bool) or answer is None:
        return None
    try:
        value = float(answer if isinstance(answer, (int, float)) else _number_text(_core(str(answer))) or "")
    except (ValueError, OverflowError):
        return None
    return value if abs(value) < float("inf") else None


def picker(key: Key, owner: str) -> Callable[[Any], Any]:
    """What takes out of an answer the part that counts; without a key its `gist`.

    Raises:
        ConfigError: `key` is neither a name nor a function.
    """
    if key is None:
        return gist
    if isinstance(key, str) and key:
        return lambda answer: field_of(answer, key)
    if callable(key):
        return key
    raise ConfigError(f"{owner}: key must be a function of an answer or the name of a field, not {key!r}")


def field_of(answer: Any, name: str) -> Any:
    """A field of a structured answer, also of one that is written out as JSON.

    Raises:
        InvalidAnswer: It has none of that name.
    """
    value = parsed(answer)
    if not isinstance(value, Mapping) or name not in value:
        raise InvalidAnswer(f"the answer has no field {name!r}: {str(answer)[:200]!r}")
    return value[name]


def parsed(answer: Any) -> Any:
    """The JSON value that a text holds, alone or in a fenced block; the answer itself where it holds none."""
    if not isinstance(answer, str):
        return answer
    text = answer.strip()
    fenced = _FENCE.fullmatch(text) or (_FENCE.search(text) if "```" in text else None)
    body = fenced[1].strip() if fenced else text
    if not body or body[0] not in '{["':
        return answer
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return answer


def gist(answer: Any) -> Any:
    """Of a text that says which part of it is the answer, that part; any other answer as it is."""
    if not isinstance(answer, str):
        return answer
    boxed = _BOXED.findall(answer)
    if boxed:
        return _trimmed(boxed[-1])
    lines = answer.splitlines()
    for place in range(len(lines) - 1, -1, -1):
        mark = _MARKED.match(lines[place])
        if mark and (rest := _trimmed(lines[place][mark.end() :]) or _paragraph(lines, place + 1)):
            return rest
    return answer


def _paragraph(lines: Sequence[str], place: int) -> str:
    """The first lines from a place on that say something, up to an empty one."""
    found: list[str] = []
    for line in lines[place:]:
        if line.strip():
            found.append(line)
        elif found:
            break
    return _trimmed("\n".join(found))


def _core(text: str) -> str:
    """The part of a text that is the answer, without what surrounds it."""
    return _trimmed(unicodedata.normalize("NFKC", gist(text)).replace("\u2212", "-"))


def _trimmed(text: str) -> str:
    """A text without the punctuation around it; but the point of `.5` is none."""
    trimmed = text.strip(_EDGES)
    before = text[: text.find(trimmed)] if trimmed else ""
    return f".{trimmed}" if before.endswith(".") and trimmed[0].isdigit() else trimmed


@lru_cache(maxsize=1024)
def _canonical_short(text: str) -> str:
    """The same answers come again and again: that is the point of a vote."""
    return _canonical_text(text)


def _canonical_text(text: str) -> str:
    value = parsed(text)
    if not isinstance(value, str):
        return canonical(value)
    core = _core(value)
    number = _number_text(core)
    if number is not None:
        return number
    folded = unicodedata.normalize("NFKC", core.casefold())  # again: casefolding may undo it
    folded = _trimmed(" ".join(folded.split()))
    number = _number_text(folded)  # white space of a rarer kind is gone only now
    if number is not None:
        return number
    if folded in ("true", "false", "null"):
        return folded
    if not folded:  # nothing but punctuation: then that is the answer
        folded = " ".join(value.split())
    return json.dumps(folded, ensure_ascii=False)


def _number_text(text: str) -> str | None:
    """A number in one way of writing it: `1,000.0` is `1000`."""
    if len(text) > 400 or not _NUMBER.fullmatch(text):
        return None
    value = Decimal(text.replace(",", "")).normalize(_EXACT)
    exponent = value.as_tuple().exponent
    if value.is_zero():
        return "0"
    return f"{value:f}" if isinstance(exponent, int) and -40 <= exponent <= 40 else str(value)


def _normal(value: Any) -> Any:
    """A value with each leaf in one way of writing it."""
    if isinstance(value, str):
        return _canonical_text(value)
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, (int, float)):
        return _number_text(f"{value!r:.400}") or json.dumps(str(value))
    if isinstance(value, Mapping):
        return {str(key): _normal(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray)):
        return [_normal(item) for item in value]
    return _canonical_text(str(value))


def _words(answer: Any) -> list[str]:
    text = answer if isinstance(answer, str) else json.dumps(_normal(answer), sort_keys=True, ensure_ascii=False)
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())
