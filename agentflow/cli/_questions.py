"""What a paused run asks: put to a person on a terminal, or answered on the command line."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import click

from agentflow.cli._errors import Fault
from agentflow.errors import AnswerRefused
from agentflow.questions import Question, as_answer
from agentflow.timeline.words import clean

_YES_OR_NO = {"y": True, "yes": True, "n": False, "no": False}


def answer_option(ctx: click.Context, param: click.Parameter, values: Sequence[str]) -> dict[str, str]:
    """`--answer ID=VALUE`, any number of them."""
    answers: dict[str, str] = {}
    for value in values:
        name, equals, text = value.partition("=")
        if not name or not equals:
            raise Fault(f"--answer is the id of a question and what to answer, ID=VALUE, not {value!r}")
        if name in answers:
            raise Fault(f"--answer: question {name!r} is answered twice")
        answers[name] = text
    return answers


def read_answer(question: Question | None, text: str) -> Any:
    """What a text means as an answer: JSON, itself, or yes or no; the first that fits the question.

    Raises:
        AnswerRefused: None does.
    """
    meanings: list[Any] = [text]
    try:
        meanings.insert(0, json.loads(text))
    except ValueError:
        meanings.extend([_YES_OR_NO[text.lower()]] if text.lower() in _YES_OR_NO else [])
    refused: AnswerRefused | None = None
    for meaning in meanings:
        if question is None:
            return meaning
        try:
            as_answer(question, meaning)
        except AnswerRefused as error:
            refused = refused or error
        else:
            return meaning
    assert refused is not None
    raise refused


def ask(questions: Sequence[Question]) -> dict[str, str] | None:
    """Answers of the person at the terminal, by id, for `read_answer`; `None` if they don't want to."""
    answers: dict[str, str] = {}
    for question in questions:
        click.echo("\n" + told(question))
        while question.id not in answers:
            try:
                text = click.prompt(
                    "Answer (y/n)" if _yes_or_no(question) else "Answer", default="", show_default=False
                )
                read_answer(question, text)
            except AnswerRefused as error:
                click.echo(clean(str(error)), err=True)
            except (click.Abort, KeyboardInterrupt):  # Ctrl-C, or the end of the input
                click.echo()
                return None
            else:
                answers[question.id] = text
    return answers


def told(question: Question) -> str:
    """A question as a person reads it: who asks, what, and about what."""
    parts = [question.message]
    if question.kind == "confirmation" and question.call is not None:
        parts.append(f"{question.call.name}({_arguments(question.call.args)})")
    if question.payload is not None:
        parts.append(json.dumps(question.payload, ensure_ascii=False, default=str))
    return clean(f"{question.path} asks: {'  '.join(part for part in parts if part)}")


def _arguments(args: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={json.dumps(value, ensure_ascii=False, default=str)}" for name, value in args.items())


def _yes_or_no(question: Question) -> bool:
    return question.kind == "confirmation" or (question.schema or {}).get("type") == "boolean"
