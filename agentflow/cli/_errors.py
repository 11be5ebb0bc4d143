"""Errors as people read them: one paragraph each, a traceback only when asked for."""

import re
import traceback
from collections.abc import Iterator

import click

from agentflow.errors import AgentflowError
from agentflow.timeline.words import clean

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
    where = next((found[0] for note in _notes(error) if (found := _NOTE.match(note))), "")
    return (f"{kind}: {message}" if message else kind) + (f" ({where})" if where else "")


def traced(error: BaseException) -> str:
    """The traceback, for `--debug`."""
    return clean("".join(traceback.format_exception(error))).rstrip()


def _notes(error: BaseException) -> list[str]:
    return [note for note in getattr(error, "__notes__", ()) if isinstance(note, str)]


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
