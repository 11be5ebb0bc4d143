"""`python -m agentflow` and the `agentflow` command."""

import codecs
import errno
import importlib
import io
import os
import sys
from typing import NoReturn

_PLAIN = {
    "·": "-", "…": "~", "→": ">", "×": "x", "─": "-", "━": "=", "–": "-", "—": "-",
    "‘": "'", "’": "'", "“": '"', "”": '"', "µ": "u",
}  # fmt: skip
"""What stands for characters that an encoding lacks: each as wide as they are, or columns would shift."""


def main() -> NoReturn:
    """Run the command line and exit."""
    codecs.register_error("agentflow.plain", _plain)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by whoever started us
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - until the process ends
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="agentflow.plain")  # a terminal that can't show a character is no reason to fail
    try:
        sys.exit(_run())
    except KeyboardInterrupt:
        sys.exit(130)


def _plain(error: UnicodeError) -> tuple[str, int]:
    """What is written where a stream's encoding lacks characters."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(_PLAIN.get(char, "?") for char in error.object[error.start : error.end]), error.end


def _run() -> int:
    """The command line; gives the exit code."""
    try:
        click = importlib.import_module("click")
        cli = importlib.import_module("agentflow.cli")
    except ModuleNotFoundError as error:
        _without_extra(error)
    try:
        code: int = cli.cli.main(prog_name="agentflow", standalone_mode=False)
        sys.stdout.flush()
        return code
    except ModuleNotFoundError as error:
        _without_extra(error)
    except click.ClickException as error:
        error.show()
        return int(error.exit_code)
    except click.Abort:
        return 130
    except OSError as error:
        if error.errno not in (errno.EPIPE, errno.ENOSPC):
            raise
        # what is still buffered goes nowhere, or the interpreter complains
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if error.errno == errno.EPIPE:
            return int(cli.READER_GONE)
        click.echo(f"Error: {error.strerror}", err=True)
        return 1


def _without_extra(error: ModuleNotFoundError) -> NoReturn:
    missing = (error.name or "").partition(".")[0]
    if missing not in ("click", "rich"):
        raise error
    sys.exit(f"Error: the command line needs {missing}, which is not installed: pip install 'agentflow-py[cli]'")


if __name__ == "__main__":
    main()
