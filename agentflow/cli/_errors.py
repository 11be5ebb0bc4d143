"""Errors as people read them: one paragraph each, a traceback only when asked for."""

import re
import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path

import click

import agentflow
from agentflow.errors import AgentflowError
from agentflow.timeline.words import clean

_LIBRARIES = (
    Path(agentflow.__file__).parent,
    *(Path(sysconfig.get_path(kind)) for kind in ("stdlib", "platstdlib", "purelib", "platlib")),
)
_NOTE = re.compile(r"in agent '[^']*'(?: on branch '[^']*')?")


class Fault(click.ClickException):
    """What was asked for can't be done: nothing has been done."""

    exit_code = 2


class Failure(click.ClickException):
    """What was begun has failed."""

    exit_code = 1


def describe(error: BaseException) -> str:
    """What went wrong, in a line; for a group, a line for each of its failures."""
    if isinstance(error, BaseExceptionGroup):
        leaves = list(_leaves(error))
        if len(leaves) == 1:
            return describe(leaves[0])
        return "\n".join([f"{clean(error.message)}:", *(f"  - {describe(leaf)}" for leaf in leaves)])
    message = clean(str(error)).strip().replace("\n", "\n    ")
    if isinstance(error, AgentflowError):
        return message or type(error).__name__
    kind = type(error).__name__
    agent = next((found[0] for note in _notes(error) if (found := _NOTE.match(note))), "")
    where = ", ".join(filter(None, (_line(error), agent)))
    return (f"{kind}: {message}" if message else kind) + (f" ({where})" if where else "")


def traced(error: BaseException) -> str:
    """The traceback, for `--debug`."""
    return clean("".join(traceback.format_exception(error))).rstrip()


def _line(error: BaseException) -> str:
    """The last line that it went through of the user's own code: neither ours, nor an installed library's."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        if path.is_file() and not any(path.is_relative_to(place) for place in _LIBRARIES):
            return f"{path.name}, line {frame.lineno}"
    return ""


def _notes(error: BaseException) -> list[str]:
    return [note for note in getattr(error, "__notes__", ()) if isinstance(note, str)]


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
