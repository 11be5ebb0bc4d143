"""The plugins of a Runner, by hook."""

from collections.abc import Sequence
from typing import Any

from agentflow.errors import AgentflowError, ConfigError, PluginError


class Hooks:
    """Who overrides what: an unused hook costs a truth test."""

    __slots__ = ("_by_hook", "after_agent", "before_agent", "plugins")

    def __init__(self, plugins: Sequence[Any], base: type) -> None:
        if isinstance(plugins, base):
            raise ConfigError(f"plugins is a list of them: plugins=[{type(plugins).__name__}(...)]")
        if isinstance(plugins, str) or not isinstance(plugins, Sequence):
            raise ConfigError(f"plugins must be a list of plugins, not {plugins!r}")
        self.plugins = tuple(plugins)
        self._by_hook: dict[str, tuple[Any, ...]] = {}
        names: set[str] = set()
        for plugin in self.plugins:
            if not isinstance(plugin, base):
                hint = f"; did you mean {plugin.__name__}()?" if isinstance(plugin, type) else ""
                raise ConfigError(f"a plugin must be a Plugin, not {plugin!r}{hint}")
            name = plugin_name(plugin)
            if name in names:
                raise ConfigError(f"two plugins are named {name!r}; give one of them another `name`")
            names.add(name)
            for hook in vars(base):
                if not hook.startswith("_") and getattr(type(plugin), hook) is not getattr(base, hook):
                    self._by_hook[hook] = (*self._by_hook.get(hook, ()), plugin)
        self.before_agent = self.having("before_agent")
        self.after_agent = self.having("after_agent")

    def having(self, hook: str) -> tuple[Any, ...]:
        """The plugins that override `hook`."""
        return self._by_hook.get(hook, ())

    async def first(self, hook: str, ctx: Any, *args: Any) -> Any:
        """Call `hook` of each plugin in turn; what the first returns that returns something.

        Raises:
            PluginError: A plugin failed; it names the plugin and the hook.
        """
        for plugin in self.having(hook):
            reply = await call_hook(plugin, hook, ctx, *args)
            if reply is not None:
                return reply
        return None


def plugin_name(plugin: Any) -> str:
    """What errors call a plugin."""
    return str(plugin.name or type(plugin).__name__)


async def call_hook(plugin: Any, hook: str, ctx: Any, *args: Any) -> Any:
    """Call one hook of one plugin.

    Raises:
        PluginError: It raised an `Exception`; an agentflow error that it raised on purpose is raised as itself.
    """
    try:
        return await getattr(plugin, hook)(ctx, *args)
    except AgentflowError:
        raise
    except Exception as error:
        name = plugin_name(plugin)
        raise PluginError(
            f"plugin {name!r} failed in {hook}: {type(error).__name__}: {error}",
            plugin=name,
            hook=hook,
            agent=ctx.path,
            branch=ctx.branch,
            invocation_id=ctx.invocation_id,
        ) from error
