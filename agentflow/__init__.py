"""agentflow: composable agents, one merged stream of events, nothing left behind."""

from agentflow.agents.function import FunctionAgent as FunctionAgent
from agentflow.agents.function import agent as agent
from agentflow.agents.loop import LoopAgent as LoopAgent
from agentflow.agents.parallel import ParallelAgent as ParallelAgent
from agentflow.agents.sequential import SequentialAgent as SequentialAgent
from agentflow.core import Agent as Agent
from agentflow.core import InvocationContext as InvocationContext
from agentflow.core import Plugin as Plugin
from agentflow.events import Event as Event
from agentflow.runner import Runner as Runner
