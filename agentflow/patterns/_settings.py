"""Settings that patterns share, and agents in settings as part of a pattern's tree."""

from collections.abc import Sequence
from typing import Any

from agentflow._settings import check_flags
from agentflow.core import Agent
from agentflow.errors import ConfigError
from agentflow.patterns._scatter import Plan
from agentflow.patterns.aggregate import Aggregator
from agentflow.patterns.counting import whole
from agentflow.patterns.policies import Hedge
from agentflow.policies import seconds
from agentflow.state import check_on_conflict


def own_agents(pattern: Agent, count: int, settings: Sequence[str]) -> None:
    """Make the agents that some settings (an agent, aggregators, judges) hold sub-agents of `pattern`.

    For its `check`. They stand after its first `count` sub-agents. Those of a clone are clones, which the settings
    then hold.
    """
    fields: dict[str, Any] = vars(pattern)
    cloned = {agent.name: agent for agent in fields["sub_agents"][count:]}
    held: list[Agent] = []
    for setting in settings:
        holder = fields[setting]
        wanted = (holder,) if isinstance(holder, Agent) else holder.agents if isinstance(holder, Aggregator) else ()
        if not wanted:
            continue
        agents = [agent if agent.parent is None else cloned.get(agent.name, agent) for agent in wanted]
        fields[setting] = holder.with_agents(agents) if isinstance(holder, Aggregator) else agents[0]
        held += [agent for agent in agents if agent not in held]
    fields["sub_agents"] = (*fields["sub_agents"][:count], *held)


def check_count(n: object, agents: int, owner: str) -> int:
    """How many branches there will be: `n`, or one for each agent.

    Raises:
        ConfigError: There are no agents, or fewer branches than agents.
    """
    if not agents:
        raise ConfigError(f"{owner} needs at least one agent")
    if n is None:
        return agents
    if not isinstance(n, int) or isinstance(n, bool) or n < agents:
        least = "1" if agents == 1 else f"{agents}, since there are so many agents"
        raise ConfigError(f"{owner}: n must be a whole number of at least {least}, not {n!r}")
    return n


def check_plan(pattern: Agent, owner: str, branches: int) -> None:
    """Check how a pattern runs its branches; `branches` is how many there will be, 0 where that isn't known yet.

    Raises:
        ConfigError: A setting can't work.
    """
    fields: dict[str, Any] = vars(pattern)
    for setting in ("max_concurrency", "wave"):
        value = fields.get(setting)
        if value is not None and (not whole(value) or value < 1):
            raise ConfigError(f"{owner}: {setting} must be a whole number of at least 1, or None, not {value!r}")
    least, most = fields["min_successes"], branches or "the number of branches"
    if least is None and not branches:
        pass  # all of them
    elif not whole(least) or least < 1 or (branches and least > branches):
        raise ConfigError(f"{owner}: min_successes must be from 1 to {most}, not {least!r}")
    if fields["on_error"] not in ("collect", "cancel"):
        raise ConfigError(f"{owner}: on_error must be 'collect' or 'cancel', not {fields['on_error']!r}")
    if not isinstance(fields["hedge"], (bool, Hedge)):
        raise ConfigError(f"{owner}: hedge must be a Hedge, True or False, not {fields['hedge']!r}")
    for setting in ("timeout_per_agent", "deadline"):
        fields[setting] = seconds(fields[setting], f"{owner}: {setting}")
    for setting in ("show_branches", "early_stop"):
        check_flags(owner, **{setting: fields.get(setting, False)})
    fields["on_conflict"] = check_on_conflict(fields["on_conflict"], owner)


def plan_of(pattern: Agent) -> Plan:
    """How a pattern runs its branches, by its settings, which `check_plan` has seen to."""
    fields: dict[str, Any] = vars(pattern)
    return Plan(
        timeout=fields["timeout_per_agent"],
        max_concurrency=fields["max_concurrency"],
        min_successes=fields["min_successes"] or 0,
        on_error=fields["on_error"],
        deadline=fields["deadline"],
        wave=fields.get("wave"),
        hedge=Hedge() if fields["hedge"] is True else fields["hedge"] or None,
        hide=not fields["show_branches"],
        on_conflict=fields["on_conflict"],
    )
