"""`agentflow batch TARGET INPUT...`: run an agent on each of many inputs."""

import json
import sys
from collections.abc import Iterator
from contextlib import nullcontext, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import click
from click.shell_completion import CompletionItem
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from agentflow.batch import Batch, BatchInput, BatchProgress, run_batch
from agentflow.cli._errors import Fault, describe, traced
from agentflow.cli._options import backend_option, debug_option, in_seconds, utf8
from agentflow.cli._play import READER_GONE, Backend, Player, Settings
from agentflow.cli._targets import TargetError, load
from agentflow.cli._terminal import standard_input
from agentflow.core import Agent
from agentflow.errors import BatchStopped, ConfigError
from agentflow.policies import Limits
from agentflow.timeline.words import clean

_LINES = {".jsonl", ".ndjson"}


def _files(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(incomplete, type="file")]


@click.command("batch")
@click.argument("target", callback=utf8, shell_complete=_files)
@click.argument("inputs", metavar="INPUT...", nargs=-1, required=True, shell_complete=_files)
@click.option(
    "--out", "-o", metavar="FILE", type=click.Path(dir_okay=False),
    help="Write results there; an interrupted batch can go on from it.",
)  # fmt: skip
@click.option("--resume", is_flag=True, help="Go on with FILE: what has a result there isn't run again.")
@click.option("--retry-failed", is_flag=True, help="Like --resume, but run again what has failed.")
@click.option(
    "--max-concurrency", "-n", type=click.IntRange(min=1), default=8, show_default=True, metavar="RUNS",
    help="How many at the same time.",
)  # fmt: skip
@click.option("--max-failures", type=click.IntRange(min=0), metavar="N", help="Stop when more than N have failed.")
@click.option("--field", metavar="NAME", help="Of each JSON object, what the agent is told; by default `input`.")
@click.option("--timeout", callback=in_seconds, metavar="SECONDS", help="End a run after so long; 5m is understood.")
@backend_option
@debug_option
@click.pass_context
def command(
    ctx: click.Context,
    target: str,
    inputs: tuple[str, ...],
    *,
    out: str | None,
    resume: bool,
    retry_failed: bool,
    max_concurrency: int,
    max_failures: int | None,
    field: str | None,
    timeout: float | None,
    backend: Backend,
    debug: bool,
) -> None:
    """Run the agent TARGET on each of many inputs, and give one line of JSON for each, as they come.

    TARGET is as for `agentflow run`. INPUT is a text, which is one input; a folder of texts; a file of JSON lines
    (.jsonl), each an input; or - for JSON lines that are piped in. Of a JSON object with `input` the agent is told
    that, and `id` names it; of any other value its JSON.

    Results go to standard output, or with --out to FILE, where Ctrl-C, or a crash, keeps what is done.

    Exit codes: 0 all went well, 1 a run failed, 2 it could not begin, 130 Ctrl-C.
    """
    resume = resume or retry_failed
    if resume and out is None:
        raise Fault("--resume and --retry-failed need the file to go on with: --out FILE")
    if out is not None and not resume and Path(out).exists() and Path(out).stat().st_size:
        raise Fault(f"{out!r} is there already: --resume goes on with it")
    if "-" in inputs:
        standard_input()
    total, standard = _total(inputs), sys.stdout
    with redirect_stdout(sys.stderr):  # whatever agents print; results are written to what it was before
        player = Player(Settings(timeout=timeout, backend=backend, debug=debug, out=standard))
        work = _Work(
            player=player,
            agent=_load(target, debug=debug),
            inputs=_inputs(inputs, field),
            total=total,
            out=out,
            retry_failed=retry_failed,
            max_concurrency=max_concurrency,
            max_failures=max_failures,
        )
        try:
            anyio.run(work.run, backend=backend)
        except ConfigError as error:
            raise Fault(describe(error)) from error
    ctx.exit(player.exit_code)


def _load(target: str, *, debug: bool) -> Agent:
    try:
        return load(target)
    except TargetError as error:
        if debug and error.__cause__ is not None:
            click.echo(traced(error.__cause__) + "\n", err=True)
        raise Fault(clean(str(error))) from error


@dataclass(slots=True, kw_only=True)
class _Work:
    """One batch, from its first input to the exit code."""

    player: Player
    agent: Agent
    inputs: Iterator[BatchInput]
    total: int | None
    out: str | None
    retry_failed: bool
    max_concurrency: int
    max_failures: int | None

    async def run(self) -> None:
        """Run it, and show how far it has come."""
        settings, interrupts = self.player.settings, self.player.interrupts
        batch = run_batch(
            self.agent, self.inputs, max_concurrency=self.max_concurrency, journal=self.out,
            retry_failed=self.retry_failed, max_failures=self.max_failures, limits=Limits(seconds=settings.timeout),
        )  # fmt: skip
        batch.progress.total = self.total
        screen = _Screen(self.total)
        with screen.progress if screen.progress is not None else nullcontext(), interrupts.watch(batch.cancel):
            try:
                async with batch:
                    if interrupts.signal:  # before there was anything to cancel
                        batch.cancel()
                    await self._read(batch, screen)
            except BrokenPipeError:
                self.player.exit_code = READER_GONE
                return
            except BatchStopped as stopped:
                self.player.exit_code = 1
                screen.say(f"Stopped: {describe(stopped)}")
        progress = batch.progress
        if interrupts.signal:
            self.player.exit_code = interrupts.exit_code
        elif progress.failed:
            self.player.exit_code = 1
        click.echo(self._summary(progress), err=True)

    async def _read(self, batch: Batch, screen: "_Screen") -> None:
        async for result in batch:
            if self.out is None:
                click.echo(result.to_json(), file=self.player.settings.out)
            if not result.ok and not result.resumed:
                name = f"{result.index} ({clean(result.id)})" if result.id else str(result.index)
                reason = f"{result.error.type}: {result.error.message}" if result.error is not None else "failed"
                screen.say(f"Input {name}: {clean(reason)}")
            screen.update(batch.progress)

    def _summary(self, progress: BatchProgress) -> str:
        interrupts = self.player.interrupts
        of = f" of {self.total:,}" if self.total is not None else ""
        parts = [f"{progress.done:,}{of} done"]
        if progress.resumed:
            parts.append(f"{progress.resumed:,} of them before")
        if progress.failed:
            parts.append(f"{progress.failed:,} failed")
        parts.append(f"{progress.seconds:.1f} s")
        if progress.usage.total_tokens:
            parts.append(f"{progress.usage.total_tokens:,} tokens")
        if progress.usage.cost:
            parts.append(f"${progress.usage.cost:.4f}")
        line = ", ".join(parts) + "."
        if interrupts.signal:
            line = f"Stopped by {interrupts.name}: {line}"
            line += " Go on with --resume." if self.out is not None else ""
        return line


class _Screen:
    """A bar on a terminal; lines elsewhere."""

    def __init__(self, total: int | None) -> None:
        self.console = Console(stderr=True, highlight=False)
        self.progress: Progress | None = None
        if self.console.is_terminal:
            self.progress = Progress(
                BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[failed]}"), TimeRemainingColumn(),
                console=self.console, transient=True,
            )  # fmt: skip
            self.bar = self.progress.add_task("batch", total=total, failed="")

    def update(self, progress: BatchProgress) -> None:
        """Show how far it has come."""
        if self.progress is not None:
            failed = f"{progress.failed} failed" if progress.failed else ""
            self.progress.update(self.bar, completed=progress.done, failed=failed)

    def say(self, text: str) -> None:
        """A line of its own."""
        if self.progress is not None:
            self.console.print(text, markup=False, soft_wrap=True)
        else:
            click.echo(text, err=True)


def _inputs(places: tuple[str, ...], field: str | None) -> Iterator[BatchInput]:
    """All inputs, read one by one."""
    for place in places:
        if place == "-":
            lines = enumerate(standard_input(), 1)
            yield from (_line(line, number, "the standard input", field) for number, line in lines if line.strip())
        elif Path(place).suffix.lower() in _LINES:
            with Path(place).open("rb") as opened:
                for number, line in enumerate(opened, 1):
                    if line.strip():
                        yield _line(line, number, repr(place), field)
        else:
            for file in _texts(Path(place)):
                try:
                    yield BatchInput(file.read_bytes().decode("utf-8-sig"), id=file.name)
                except UnicodeDecodeError as error:
                    raise ConfigError(f"{str(file)!r} is not valid UTF-8 (at byte {error.start:,})") from error


def _total(places: tuple[str, ...]) -> int | None:
    """How many inputs there are, where that can be known.

    Raises:
        Fault: One of them isn't there.
    """
    total = 0
    for place in places:
        if place == "-":
            return None
        if not Path(place).exists():
            raise Fault(f"there is no file or folder {place!r}")
        if Path(place).suffix.lower() in _LINES:
            with Path(place).open("rb") as file:
                total += sum(1 for line in file if line.strip())
        else:
            total += len(_texts(Path(place)))
    if not total:
        raise Fault("there is nothing to run: no input in " + ", ".join(map(repr, places)))
    return total


def _texts(place: Path) -> list[Path]:
    if not place.is_dir():
        return [place]
    return sorted(file for file in place.iterdir() if file.is_file() and not file.name.startswith("."))


def _line(line: bytes, number: int, where: str, field: str | None) -> BatchInput:
    try:
        value: Any = json.loads(line)
    except ValueError as error:
        raise ConfigError(f"line {number} of {where} is no JSON: {error}") from error
    if not isinstance(value, dict):
        return BatchInput(value)
    name = str(value.get("id", ""))
    if field is not None and field not in value:
        raise ConfigError(f"line {number} of {where} has no {field!r}")
    return BatchInput(value.get(field or "input", value), id=name)
