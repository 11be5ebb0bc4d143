"""agentflow: composable agents, one merged stream of events, nothing left behind."""

from agentflow._sync import SyncRun as SyncRun
from agentflow.agents.function import FunctionAgent as FunctionAgent, agent as agent
from agentflow.agents.loop import LoopAgent as LoopAgent
from agentflow.agents.parallel import ParallelAgent as ParallelAgent
from agentflow.agents.sequential import SequentialAgent as SequentialAgent
from agentflow.content import (
    Blob as Blob,
    Data as Data,
    FileRef as FileRef,
    Part as Part,
    ProviderBlock as ProviderBlock,
    Text as Text,
    Thinking as Thinking,
    ToolCall as ToolCall,
    ToolResult as ToolResult,
)
from agentflow.core import Agent as Agent, InvocationContext as InvocationContext, Plugin as Plugin, Tool as Tool
from agentflow.errors import (
    AgentflowError as AgentflowError,
    AgentTimeout as AgentTimeout,
    CommitUnknown as CommitUnknown,
    ConfigError as ConfigError,
    ContextEnded as ContextEnded,
    InvalidEvent as InvalidEvent,
    LimitExceeded as LimitExceeded,
    PluginError as PluginError,
    RunError as RunError,
    RunNotFound as RunNotFound,
    ServiceError as ServiceError,
    SessionBusy as SessionBusy,
    SessionError as SessionError,
    SessionExists as SessionExists,
    SessionNotFound as SessionNotFound,
    StaleSession as StaleSession,
    StateConflict as StateConflict,
)
from agentflow.events import Actions as Actions, ErrorInfo as ErrorInfo, Event as Event, Usage as Usage
from agentflow.outcome import Outcome as Outcome
from agentflow.policies import Limits as Limits, Retry as Retry
from agentflow.runner import Run as Run, Runner as Runner, RunResult as RunResult
from agentflow.services.artifacts import Artifact as Artifact, ArtifactService as ArtifactService
from agentflow.services.inmemory import (
    InMemoryArtifactService as InMemoryArtifactService,
    InMemoryMemoryService as InMemoryMemoryService,
    InMemorySessionService as InMemorySessionService,
)
from agentflow.services.memory import MemoryHit as MemoryHit, MemoryService as MemoryService
from agentflow.services.sessions import (
    Session as Session,
    SessionInfo as SessionInfo,
    SessionKey as SessionKey,
    SessionService as SessionService,
)

__version__ = "0.1.0"
