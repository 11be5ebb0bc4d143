"""An MCP server written with the official SDK, for the tests. Run: `python desk.py [port]`; without a port on stdio."""

import os
import sys
from pathlib import Path

import anyio
from mcp.server.mcpserver import Context, Image, MCPServer
from mcp_types import ToolAnnotations

server = MCPServer("desk")
notes = Path(os.environ.get("DESK_NOTES", os.devnull))


def note(text: str) -> None:
    with notes.open("a") as file:
        file.write(text + "\n")


@server.tool()
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
def where() -> str:
    """Say which process this is."""
    return str(os.getpid())


@server.tool()
def fail(words: str) -> str:
    """Fail."""
    raise ValueError(words)


@server.tool()
def draw() -> Image:
    """Draw a picture."""
    return Image(data=b"\x89PNG", format="png")


@server.tool()
async def count(ctx: Context, n: int) -> str:
    """Count, and tell how far it is."""
    for i in range(1, n + 1):
        await ctx.report_progress(i, n, f"{i} of {n}")
    return "counted"


@server.tool()
async def hang(ctx: Context) -> str:
    """Wait for ever."""
    note("hangs")
    await ctx.report_progress(0, None, "begun")
    try:
        await anyio.sleep_forever()
    finally:
        note("let go")
    return "never"


@server.tool()
def leave(word: str = "") -> str:
    """End the process in the middle of the call."""
    note(f"leaves {word}")
    os._exit(1)


@server.tool(annotations=ToolAnnotations(idempotent_hint=True))
def leave_once() -> str:
    """End the process in the middle of the first call."""
    note("asked")
    if notes.read_text().count("asked") == 1:
        os._exit(1)
    return "answered"


@server.tool(name="odd.name/here")
def odd() -> str:
    """Has a name that models don't take."""
    return "odd"


@server.resource("desk://paper")
def paper() -> str:
    """A sheet of paper."""
    return "written on"


if __name__ == "__main__":
    if len(sys.argv) > 1:
        server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[1]))
    else:
        server.run("stdio")
