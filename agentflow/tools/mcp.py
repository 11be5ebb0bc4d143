"""Tools of MCP servers (extra `mcp`), by the official SDK."""

import base64
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

import anyio

from agentflow.content import Blob, FileRef, Part, Text
from agentflow.core import InvocationContext, Tool, ToolContext
from agentflow.errors import ConfigError, ToolError
from agentflow.tools.function import NeedsConfirmation
from agentflow.tools.toolset import Toolset

if TYPE_CHECKING:  # the SDK is heavy, and an extra: it is imported when a server is first connected to
    import mcp_types as types
    from mcp import Client
    from mcp.server import Server
    from mcp.server.mcpserver import MCPServer

T = TypeVar("T")
_PROGRESS_KEPT = 64
"""How many reports of progress may wait to be shown; those that come when so many do are dropped."""


class McpToolset(Toolset):
    """The tools of an MCP server.

    It connects when an agent first asks for its tools, in a task of the Runner's, once for all runs, and connects again
    once where the connection is lost. A call that may have been at work when that happened is made again only if the
    server says that the tool may be called twice. Cancelling a run cancels its calls at the server.

    Args:
        server: A command and its arguments, started as a subprocess and spoken to over its standard streams; the URL of
            a server of streamable HTTP; or, for tests, a server of the SDK in this process.
        env: Environment variables for the command, beside the few that are safe.
        cwd: Its working directory.
        headers: For HTTP, for instance `{"Authorization": "Bearer ..."}`.
        only: Which tools; see `Toolset`. A function is given each as an `McpTool`.
        prefix: See `Toolset`.
        require_confirmation: See `Toolset`.
        resources: Whether the model gets `list_resources` and `read_resource` too.
        timeout: Seconds for a call.
        connect_timeout: Seconds until the server must have answered.

    Raises:
        ConfigError: A setting can't work. `ToolError` from a turn: the server can't be reached.

    Source: adk-go `tool/mcptoolset`.
    """

    def __init__(
        self,
        server: "str | Sequence[str] | Server[Any] | MCPServer",
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | Path | None = None,
        headers: Mapping[str, str] | None = None,
        only: Collection[str] | Callable[[Tool], bool] | None = None,
        prefix: str = "",
        require_confirmation: NeedsConfirmation | None = None,
        resources: bool = False,
        timeout: float | None = None,
        connect_timeout: float = 30.0,
    ) -> None:
        super().__init__(only=only, prefix=prefix, require_confirmation=require_confirmation)
        if find_spec("mcp") is None:
            raise ConfigError("McpToolset needs the extra `mcp`: agentflow-py[mcp]")
        if isinstance(server, str):
            if not server.startswith(("http://", "https://")):
                raise ConfigError(f"McpToolset: {server!r} is no URL; a command is a list: ['npx', '-y', '...']")
            self.name = server
        elif isinstance(server, Sequence):
            if not server or not all(isinstance(word, str) for word in server):
                raise ConfigError(f"McpToolset: a command is a list of strings that isn't empty, not {server!r}")
            self.name = " ".join(server)
        elif type(server).__module__.split(".")[0] == "mcp":
            self.name = server.name
        else:
            raise ConfigError(f"McpToolset: a server is a URL or a command, not {server!r}")
        if isinstance(server, str) and (env is not None or cwd is not None):
            raise ConfigError("McpToolset: env and cwd are for commands")
        if not isinstance(server, str) and headers is not None:
            raise ConfigError("McpToolset: headers are for URLs")
        self.server = server
        self.env = dict(env) if env is not None else None
        self.cwd = cwd
        self.headers = dict(headers or {})
        self.resources = resources
        self.timeout = timeout
        self.connect_timeout = connect_timeout

    def __repr__(self) -> str:
        return f"McpToolset({self.name!r})"

    async def get_tools(self, ctx: InvocationContext) -> Sequence[Tool]:
        """All tools of the server, asked for once per connection, and again when it says that they have changed.

        Raises:
            ToolError: It can't be reached, or refuses.
        """
        tools: list[Tool] = [McpTool(self, tool) for tool in await self._use(ctx, _Connection.list_tools)]
        if self.resources:
            tools += [_ListResources(self), _ReadResource(self)]
        return tools

    async def read_resource(self, ctx: InvocationContext, uri: str) -> list[Part]:
        """The contents of a resource.

        Raises:
            ToolError: The server doesn't give it.
        """
        result = await self._use(ctx, lambda connection: connection.client.read_resource(uri))
        return [_contents(contents) for contents in result.contents]

    async def list_resources(self, ctx: InvocationContext) -> "list[types.Resource]":
        """All resources that the server lists.

        Raises:
            ToolError: It refuses.
        """
        return await self._use(ctx, _Connection.list_resources)

    async def _use(
        self, ctx: InvocationContext, do: "Callable[[_Connection], Awaitable[T]]", *, again: bool = True
    ) -> T:
        """Do something with the connection; where it turns out to be lost, with another, once.

        `again`: also where it was lost in the middle, and nobody knows whether the server has done it.
        """
        import httpx2
        from mcp import MCPError
        from mcp_types import CONNECTION_CLOSED

        connection = await self._connect(ctx)
        for last in (False, True):
            if not last and connection.lost:
                connection = await self._connect(ctx, renew=connection)
                continue
            try:
                return await do(connection)
            except MCPError as error:
                gone = error.message == "Session terminated"  # the server has forgotten us: it has done nothing
                if last or not (gone or (again and error.code == CONNECTION_CLOSED)):
                    raise self._failed(error) from error
            except (httpx2.HTTPError, OSError, anyio.ClosedResourceError, anyio.BrokenResourceError) as error:
                if last or not again:
                    raise self._failed(error) from error
            connection = await self._connect(ctx, renew=connection)
        raise AssertionError("unreachable")

    def _failed(self, error: Exception) -> ToolError:
        return ToolError(f"MCP server {self.name!r}: {str(error) or type(error).__name__}")

    async def _connect(self, ctx: InvocationContext, *, renew: "_Connection | None" = None) -> "_Connection":
        import httpx2
        from mcp import MCPError

        with anyio.move_on_after(self.connect_timeout):
            try:
                connection: _Connection = await ctx.resource(self, self._open, renew=renew)
            except (MCPError, OSError, ValueError, httpx2.HTTPError, ExceptionGroup) as error:
                raise ToolError(f"MCP server {self.name!r} can't be reached: {error}") from error
            return connection
        ctx.drop_resource(self)
        raise ToolError(f"MCP server {self.name!r} didn't answer within {self.connect_timeout:g} s")

    @asynccontextmanager
    async def _open(self) -> "AsyncGenerator[_Connection]":
        import httpx2
        from mcp import Client, StdioServerParameters, stdio_client
        from mcp.client.streamable_http import streamable_http_client

        connection = _Connection()
        async with AsyncExitStack() as stack:
            server: Any = self.server
            if isinstance(server, str):
                http = await stack.enter_async_context(httpx2.AsyncClient(headers=self.headers, timeout=None))
                server = streamable_http_client(server, http_client=http)
            elif isinstance(server, Sequence):
                command = StdioServerParameters(command=server[0], args=list(server[1:]), env=self.env, cwd=self.cwd)
                server = connection.watch(stdio_client(command))
            connection.client = await stack.enter_async_context(Client(server, message_handler=connection.heard))
            yield connection


class _Connection:
    """One connection to a server, and what is known of it."""

    client: "Client"

    def __init__(self) -> None:
        self.lost = False
        self._tools: list[Any] | None = None

    async def heard(self, message: object) -> None:
        """The server says something of itself."""
        if type(message).__name__ == "ToolListChangedNotification":
            self._tools = None

    async def list_tools(self) -> "list[types.Tool]":
        if self._tools is None:
            tools: list[types.Tool] = []
            cursor: str | None = None
            while True:
                page = await self.client.list_tools(cursor=cursor)
                tools += page.tools
                cursor = page.next_cursor
                if not cursor:
                    break
            self._tools = tools
        return self._tools

    async def list_resources(self) -> "list[types.Resource]":
        resources: list[types.Resource] = []
        cursor: str | None = None
        while True:
            page = await self.client.list_resources(cursor=cursor)
            resources += page.resources
            cursor = page.next_cursor
            if not cursor:
                return resources

    @asynccontextmanager
    async def watch(self, transport: Any) -> AsyncGenerator[Any]:
        """A transport that tells when the server has gone: the SDK learns it, and says so only of the next request."""
        async with transport as (read, write):
            yield _Reading(read, self), write


class _Reading:
    """A stream of what a server says, and whether it has ended."""

    def __init__(self, stream: Any, connection: _Connection) -> None:
        self._stream = stream
        self._connection = connection

    @property
    def last_context(self) -> Any:
        return getattr(self._stream, "last_context", None)

    async def receive(self) -> Any:
        try:
            return await self._stream.receive()
        except anyio.EndOfStream:
            self._connection.lost = True
            raise

    async def aclose(self) -> None:
        await self._stream.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        try:
            return await self.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()


class McpTool(Tool):
    """A tool of an MCP server.

    Attributes:
        mcp: What the server says of it, annotations included.
    """

    def __init__(self, toolset: McpToolset, tool: "types.Tool") -> None:
        super().__init__(
            re.sub(r"[^\w-]", "_", tool.name, flags=re.ASCII),
            description=tool.description or "",
            timeout=toolset.timeout,
        )
        self.mcp = tool
        self._toolset = toolset

    @property
    def parameters(self) -> dict[str, Any]:
        return self.mcp.input_schema

    async def run(self, ctx: ToolContext, args: dict[str, Any]) -> Any:
        """Call it at the server; what it tells of its progress is shown.

        Raises:
            ToolError: It says that it failed; or the server can't be reached, or was lost in the middle.
        """
        hints = self.mcp.annotations
        again = hints is not None and bool(hints.read_only_hint or hints.idempotent_hint)
        told, reports = anyio.create_memory_object_stream[dict[str, Any]](_PROGRESS_KEPT)

        async def heard(progress: float, total: float | None, message: str | None) -> None:
            report = {"progress": progress, "total": total, "message": message}
            try:  # in the connection's task, which isn't to wait for who reads the run
                told.send_nowait({name: value for name, value in report.items() if value is not None})
            except (anyio.WouldBlock, anyio.BrokenResourceError, anyio.ClosedResourceError):
                return

        async def show() -> None:
            async for report in reports:
                await ctx.progress(report)

        async def call(connection: _Connection) -> "types.CallToolResult":
            return await connection.client.call_tool(self.mcp.name, args, progress_callback=heard)

        result: types.CallToolResult | ToolError
        with reports:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(show)
                with told:
                    try:
                        result = await self._toolset._use(ctx, call, again=again)
                    except ToolError as error:  # raised outside of the group, as itself
                        result = error
        if isinstance(result, ToolError):
            raise result
        return _answer(result)


class _ListResources(Tool):
    def __init__(self, toolset: McpToolset) -> None:
        super().__init__("list_resources", description="List the resources that can be read with `read_resource`.")
        self._toolset = toolset

    async def run(self, ctx: ToolContext, args: dict[str, Any]) -> Any:
        return [
            resource.model_dump(mode="json", include={"uri", "name", "description", "mime_type"}, exclude_none=True)
            for resource in await self._toolset.list_resources(ctx)
        ]


class _ReadResource(Tool):
    def __init__(self, toolset: McpToolset) -> None:
        super().__init__("read_resource", description="Read a resource by its URI.")
        self._toolset = toolset

    @property
    def parameters(self) -> dict[str, Any]:
        return {"type": "object", "properties": {"uri": {"type": "string"}}, "required": ["uri"]}

    async def run(self, ctx: ToolContext, args: dict[str, Any]) -> Any:
        return await self._toolset.read_resource(ctx, str(args.get("uri", "")))


def _answer(result: "types.CallToolResult") -> Any:
    """What a server answered: its structured value where it has one, else its content."""
    parts = [_part(block) for block in result.content]
    if result.is_error:
        words = "\n".join(part.text for part in parts if isinstance(part, Text))
        raise ToolError(words or "the tool failed, and doesn't say why")
    if result.structured_content is not None and all(isinstance(part, Text) for part in parts):
        return result.structured_content
    return parts


def _part(block: "types.ContentBlock") -> Part:
    if block.type == "text":
        return Text(block.text)
    if block.type == "resource_link":
        return FileRef(str(block.uri), block.mime_type, block.name)
    if block.type == "resource":
        return _contents(block.resource)
    return Blob(base64.b64decode(block.data), block.mime_type)


def _contents(contents: "types.TextResourceContents | types.BlobResourceContents") -> Part:
    text = getattr(contents, "text", None)
    if text is not None:
        return Text(text)
    blob = base64.b64decode(getattr(contents, "blob", ""))
    return Blob(blob, contents.mime_type or "application/octet-stream", str(contents.uri))
