"""An agent that uses the tools of an MCP server (extra `mcp`). Run: `python examples/mcp_tools.py`.

The server is this same file, started as a subprocess. With ANTHROPIC_API_KEY set, Claude decides what to call.
"""

import os
import sys

import anyio

from agentflow import LlmAgent, McpToolset, Runner, ToolCall, ToolResult
from agentflow.testing import ScriptedModel

CLAUDE = "claude-opus-5-5" if os.environ.get("ANTHROPIC_API_KEY") else None


def serve() -> None:
    """An MCP server, written with the official SDK."""
    from mcp.server.mcpserver import MCPServer

    server = MCPServer("shop")

    @server.tool()
    def stock(item: str) -> int:
        """Say how many of an item are in stock."""
        return {"teapot": 3, "cup": 40}.get(item, 0)

    server.run("stdio")


shop = McpToolset([sys.executable, __file__, "serve"], only=["stock"])
script = ScriptedModel(
    [ToolCall("1", "stock", {"item": "teapot"}), ToolCall("2", "stock", {"item": "cup"})],
    "There are 3 teapots and 40 cups.",
)
agent = LlmAgent("keeper", model=CLAUDE or script, instruction="Look into the stock.", tools=[shop])


async def main() -> None:
    async with Runner(agent) as runner, runner.run("How many teapots and cups are there?") as run:
        async for event in run:
            for part in event.parts:
                if isinstance(part, ToolResult):
                    print(f"{part.name}: {part.result}")
    print(run.result.text)


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        serve()
    else:
        anyio.run(main)
