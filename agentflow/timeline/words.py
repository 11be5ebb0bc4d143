"""How times, counts and what events say are written for people, in a terminal and on a page alike."""

import json
import re
from collections.abc import Mapping
from itertools import groupby

from agentflow.content import Blob, Data, FileRef, ToolCall, ToolResult
from agentflow.events import Event, SynthesisComplete
from agentflow.questions import ASKING, WAITING

_LONGEST = 2_000
"""Characters shown of a value that isn't text."""
_CONTROL = re.compile(
    r"\r\n"
    r"|\x1b\[[0-?]*[ -/]*[@-~]|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?"  # colours and cursors; titles, links
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]"  # others; separators; overrides of the direction
)


def clean(text: str) -> str:
    """`text` without what could steer a terminal: line feeds and tabs stay."""
    return _CONTROL.sub(lambda found: "\n" if found[0] == "\r\n" else "", text)


def one_line(text: str) -> str:
    """`text` on one line, clean."""
    return " ".join(clean(text).split())


def duration(seconds: float) -> str:
    """For people: `12 ms`, `3.4 s`, `2 m 05 s`, `1 h 02 m`."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 99.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} m {rest:02} s" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02} m"


def plural(count: int, noun: str) -> str:
    """`1 text`, `2 texts`, `3 branches`."""
    return f"{count:,} {noun if count == 1 else noun + ('es' if noun.endswith('ch') else 's')}"


def said(event: Event) -> str:
    """What an event says to people: its text, else what else it has, else nothing."""
    return clean(event.text) or "\n".join(filter(None, map(_other, event.parts)))


def _other(part: object) -> str:
    if isinstance(part, Data):
        return short(part.value)
    if isinstance(part, ToolCall):
        return f"asks: {_question(part.args)}" if part.name in ASKING else f"calls {part.name}({short(part.args)})"
    if isinstance(part, ToolResult):
        if part.name in ASKING:
            return f"answers {short(part.result)}"
        if part.extra and WAITING in part.extra:
            return f"{part.name} waits for an answer"
        return f"{part.name} {'failed' if part.is_error else 'answered'}: {short(part.result)}"
    if isinstance(part, Blob):
        return f"[{clean(part.mime_type)}, {len(part.data):,} bytes]"
    if isinstance(part, FileRef):
        return f"[{clean(part.uri)}]"
    return ""


def _question(args: Mapping[str, object]) -> str:
    """The words of a call that is a question to people."""
    confirmation = args.get("toolConfirmation")
    words = confirmation.get("hint") if isinstance(confirmation, Mapping) else args.get("message")
    return short(words or args)


def short(value: object, most: int = _LONGEST) -> str:
    """A value as text, clean and of bounded length."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return clean(text if len(text) <= most else text[:most] + "…")


def decision(record: SynthesisComplete) -> list[str]:
    """How a pattern made one answer of many, fact by fact."""
    facts = [f"{one_line(record.aggregation_strategy)} of {plural(record.input_results_count, 'answer')}"]
    if record.agreement is not None:
        facts.append(f"agreement {record.agreement:.0%}")
    if record.saved_calls:
        facts.append(f"{plural(record.saved_calls, 'call')} saved")
    if record.quality is not None:
        facts.append(f"quality {record.quality:.2f}")
    if record.synthesis_time_ms >= 1:
        facts.append(f"in {duration(record.synthesis_time_ms / 1000)}")
    return facts


def heading(event: Event) -> str:
    """Who said it, and where: branch and author; the author alone on the run's own line."""
    author = one_line(event.author)
    segments = [one_line(name) for name, _ in groupby(event.segments)]  # a Parallel in a Parallel names itself twice
    if not segments:
        where = author
    else:
        where = ".".join(segments) + (f" {author}" if segments[-1].partition("#")[0] != author else "")
    return f"{where} ({event.iteration})" if event.iteration is not None else where
