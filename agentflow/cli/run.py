"""`agentflow run TARGET [INPUT]`: run an agent and watch it."""

import contextlib
import os
import stat
import sys

import click
from click.shell_completion import CompletionItem

from agentflow.agents.llm import LlmAgent
from agentflow.cli._errors import Fault, traced
from agentflow.cli._options import (
    KEY,
    as_text,
    backend_option,
    chosen_model,
    debug_option,
    in_seconds,
    json_option,
    model_option,
    utf8,
)
from agentflow.cli._play import Backend, Player, Settings
from agentflow.cli._questions import answer_option
from agentflow.cli._store import complete_session, db_option, in_memory_option
from agentflow.cli._targets import TargetError, load
from agentflow.core import Agent
from agentflow.errors import ConfigError
from agentflow.models.base import Model
from agentflow.timeline.words import clean

_MODEL = "claude-opus-5-5"


def _files(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(incomplete, type="file")]


@click.command("run")
@click.argument("target", callback=utf8, shell_complete=_files)
@click.argument("input", required=False, callback=utf8)
@model_option(_MODEL)
@json_option
@click.option(
    "--lookahead", type=click.IntRange(min=0), default=0, show_default=True, metavar="EVENTS",
    help="How far each branch may run ahead of what is shown; 0 is in step.",
)  # fmt: skip
@click.option("--timeout", callback=in_seconds, metavar="SECONDS", help="End the run after so long; 5m is understood.")
@click.option("--user", default="user", show_default=True, callback=utf8, help="Whose session it is.")
@click.option(
    "--session", callback=utf8, help="Id of the session; by default a new one.", shell_complete=complete_session
)
@click.option("--continue", "-c", "go_on", is_flag=True, help="Go on with the latest session of this agent and user.")
@click.option(
    "--answer", "answers", multiple=True, callback=answer_option, metavar="ID=VALUE",
    help="Answer a question that the session's last run asked, and let it go on. VALUE is JSON or text.",
)  # fmt: skip
@db_option
@in_memory_option
@backend_option
@debug_option
@click.pass_context
def command(
    ctx: click.Context,
    target: str,
    input: str | None,  # noqa: A002 - what the help calls it
    *,
    model: str | None,
    as_json: bool,
    lookahead: int,
    timeout: float | None,
    user: str,
    session: str | None,
    go_on: bool,
    answers: dict[str, str],
    db: str | None,
    in_memory: bool,
    backend: Backend,
    debug: bool,
) -> None:
    """Run the agent TARGET on INPUT and show what all branches say and do.

    TARGET is file.py (the only agent in it, or one named root_agent or agent), file.py:name, or module:name. INPUT is
    text; - or nothing reads what is piped in.

    The session is kept, so that --continue goes on with it, and `agentflow timeline` draws it.

    A run that asks something is answered on the terminal; elsewhere it pauses, and --answer lets it go on.

    Exit codes: 0 all went well, 1 the run failed, 2 it could not begin, 3 it waits for an answer, 130 Ctrl-C.
    """
    if go_on and (session is not None or in_memory):
        other = "--session" if session is not None else "--in-memory"
        raise Fault(f"--continue goes on with the latest session that was kept: leave out {other}")
    if answers and session is None and not go_on:
        raise Fault("--answer goes on with a run that was kept: name its session with --session, or --continue")
    settings = Settings(
        model=chosen_model(model, _MODEL),
        json=as_json,
        lookahead=lookahead,
        timeout=timeout,
        user=user,
        session=session,
        go_on=go_on,
        db=db,
        in_memory=in_memory,
        backend=backend,
        debug=debug,
        answers=answers,
    )
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        player = Player(settings)
        agent = _load(target, debug=debug)
        _check_models(agent, settings.model)
        player.play(agent, input if answers and input != "-" else _message(input))
    ctx.exit(player.exit_code)


def _load(target: str, *, debug: bool) -> Agent:
    try:
        return load(target)
    except TargetError as error:
        if debug and error.__cause__ is not None:
            click.echo(traced(error.__cause__) + "\n", err=True)
        raise Fault(clean(str(error))) from error


def _check_models(agent: Agent, model: Model | None) -> None:
    for node in agent.walk():
        if isinstance(node, LlmAgent):
            try:
                node.model_or(model)
            except ConfigError:
                message = f"agent {node.name!r} has no model: set {KEY} and Claude thinks, or name one with --model"
                raise Fault(message) from None


def _message(text: str | None) -> str | None:
    """What the user says; `None` is nothing."""
    if text is not None and text != "-":
        return text
    if sys.stdin is None or (text is None and not _piped()):
        if sys.stdin is not None and sys.stdin.isatty():
            click.echo("No INPUT was given: the agent is told nothing.", err=True)
        return None
    said = as_text(sys.stdin.buffer.read(), "the standard input").removesuffix("\n").removesuffix("\r")
    return said or None


def _piped() -> bool:
    """Whether stdin is a pipe or a file; not a terminal, and not `/dev/null`."""
    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode
    except (OSError, ValueError):  # no real file: what a test has put there
        return True
    return stat.S_ISFIFO(mode) or stat.S_ISREG(mode) or stat.S_ISSOCK(mode)
