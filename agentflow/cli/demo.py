"""`agentflow demo [FILE-OR-FOLDER]`: analyse a text with agents in parallel."""

import sys
import time
from pathlib import Path

import click

from agentflow.cli._errors import Fault
from agentflow.cli._options import (
    KEY,
    as_text,
    backend_option,
    chosen_model,
    debug_option,
    json_option,
    model_option,
    utf8,
)
from agentflow.cli._play import Backend, Player, Settings
from agentflow.cli._store import db_option, in_memory_option
from agentflow.core import Agent
from agentflow.demo.pipeline import NOTE, TEXT, document_analysis
from agentflow.errors import ConfigError
from agentflow.models.base import Model
from agentflow.timeline.words import clean, duration

_MODEL = "claude-haiku-5-5"
_HINT = f"Set {KEY} and Claude reads it."
_SUFFIXES = {".txt", ".text", ".md", ".markdown", ".rst"}


class _Unfit(Fault):
    """This file can't be analysed; others may."""


@click.command("demo")
@click.argument("path", required=False, metavar="[FILE-OR-FOLDER]", callback=utf8, type=click.Path())
@model_option(_MODEL)
@json_option
@db_option
@in_memory_option
@backend_option
@debug_option
@click.pass_context
def command(
    ctx: click.Context,
    path: str | None,
    *,
    model: str | None,
    as_json: bool,
    db: str | None,
    in_memory: bool,
    backend: Backend,
    debug: bool,
) -> None:
    """Analyse a text: sentiment, names, summary and keywords of each section at once, then a report on the whole.

    FILE-OR-FOLDER is a text in UTF-8, or a folder of them (.txt, .md, .rst), which are analysed one after the other. By
    default it is "Alice's Adventures in Wonderland".

    No API key is needed: without one, the analysts are local code, made for English, that selects and counts. With one,
    or with --model, a model reads; --model none keeps it local.
    """
    thinker = chosen_model(model, _MODEL)
    player = Player(Settings(json=as_json, db=db, in_memory=in_memory, backend=backend, debug=debug))
    files = _files(path)
    click.echo(
        f"{thinker.name} reads: four calls for each section, and one." if thinker else f"{NOTE}\n{_HINT}", err=True
    )
    began = time.monotonic()
    for number, file in enumerate(files, 1):
        if len(files) > 1:
            click.echo(f"[{number}/{len(files)}] {clean(file.name)}{_left(began, number - 1, len(files))}", err=True)
        try:
            agent = _agent(file, thinker)
        except _Unfit as unfit:
            if len(files) == 1:
                raise
            click.echo(f"Error: {unfit.message}", err=True)
            player.exit_code = 1
            continue
        player.play(agent, f"Analyse {file.name}")
        if player.over:
            break
    ctx.exit(player.exit_code)


def _left(began: float, done: int, total: int) -> str:
    """About how long the rest will take; for people alone."""
    if not done or not sys.stderr.isatty():
        return ""
    left = (time.monotonic() - began) / done * (total - done)
    return f" · about {duration(left)} left" if left >= 1 else ""


def _files(path: str | None) -> list[Path]:
    if path is None:
        return [TEXT]
    place = Path(path)
    if not path or not place.exists():  # nothing is an empty variable of the shell, not the working folder
        raise Fault(f"there is no file or folder {path!r}")
    if not place.is_dir():
        return [place]
    files = sorted(file for file in place.iterdir() if file.suffix.lower() in _SUFFIXES and file.is_file())
    if not files:
        raise Fault(f"there is no text in {path!r}: no file ends in {', '.join(sorted(_SUFFIXES))}")
    return files


def _agent(file: Path, model: Model | None) -> Agent:
    try:
        text = as_text(file.read_bytes(), repr(file.name))
    except Fault as fault:
        raise _Unfit(fault.message) from fault
    except OSError as error:
        raise _Unfit(f"{str(file)!r} can't be read: {error.strerror}") from error
    try:
        title = "Alice's Adventures in Wonderland" if file == TEXT else file.stem
        return document_analysis(text, title=title, model=model)
    except ConfigError as error:
        raise Fault(str(error)) from error
    except ValueError as error:
        raise _Unfit(f"{file.name!r}: {error}") from error
