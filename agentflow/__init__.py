"""agentflow: composable agents, one merged stream of events, nothing left behind.

Names are looked up when they are first used, so that `agentflow --help`, and a program that needs a part, don't wait
for all of it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agentflow._sync import SyncRun as SyncRun
    from agentflow.agents.branches import Branch as Branch, Branches as Branches
    from agentflow.agents.function import FunctionAgent as FunctionAgent, agent as agent
    from agentflow.agents.loop import LoopAgent as LoopAgent
    from agentflow.agents.parallel import ParallelAgent as ParallelAgent
    from agentflow.agents.sequential import SequentialAgent as SequentialAgent
    from agentflow.batch import (
        Batch as Batch,
        BatchInput as BatchInput,
        BatchProgress as BatchProgress,
        BatchResult as BatchResult,
        run_batch as run_batch,
    )
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
        BatchStopped as BatchStopped,
        CommitUnknown as CommitUnknown,
        ConfigError as ConfigError,
        ContextEnded as ContextEnded,
        InvalidAnswer as InvalidAnswer,
        InvalidEvent as InvalidEvent,
        LimitExceeded as LimitExceeded,
        NoDecision as NoDecision,
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
        TooFewAnswers as TooFewAnswers,
    )
    from agentflow.events import Actions as Actions, ErrorInfo as ErrorInfo, Event as Event, Usage as Usage
    from agentflow.outcome import Outcome as Outcome
    from agentflow.patterns.aggregate import (
        Aggregator as Aggregator,
        Collect as Collect,
        Combine as Combine,
        Decision as Decision,
        First as First,
        Given as Given,
        Panel as Panel,
        Synthesis as Synthesis,
    )
    from agentflow.patterns.answers import (
        canonical as canonical,
        similarity as similarity,
    )
    from agentflow.patterns.competition import CompetitionAgent as CompetitionAgent
    from agentflow.patterns.consensus import Consensus as Consensus
    from agentflow.patterns.decompose import DecompositionAgent as DecompositionAgent
    from agentflow.patterns.executor import (
        ParallelExecutor as ParallelExecutor,
        Task as Task,
        TaskResult as TaskResult,
    )
    from agentflow.patterns.fan_out import (
        FanOutFanIn as FanOutFanIn,
        FanOutResult as FanOutResult,
    )
    from agentflow.patterns.graph import (
        Graph as Graph,
        GraphAgent as GraphAgent,
        GraphResult as GraphResult,
        Node as Node,
    )
    from agentflow.patterns.judge import Judge as Judge
    from agentflow.patterns.map_reduce import (
        FailedChunk as FailedChunk,
        MapReduceAgent as MapReduceAgent,
        MapReduceResult as MapReduceResult,
    )
    from agentflow.patterns.policies import Hedge as Hedge
    from agentflow.patterns.rating import (
        Rubric as Rubric,
        Verdict as Verdict,
    )
    from agentflow.patterns.result import (
        BranchResult as BranchResult,
        CompetitionResult as CompetitionResult,
        DecompositionResult as DecompositionResult,
        Metrics as Metrics,
        ScatterGatherResult as ScatterGatherResult,
        Subtask as Subtask,
    )
    from agentflow.patterns.scatter_gather import ScatterGatherAgent as ScatterGatherAgent
    from agentflow.patterns.splitters import (
        Chunk as Chunk,
        FileSplitter as FileSplitter,
        RecordSplitter as RecordSplitter,
        SectionSplitter as SectionSplitter,
        SentenceSplitter as SentenceSplitter,
        TokenSplitter as TokenSplitter,
    )
    from agentflow.patterns.voting import Voting as Voting
    from agentflow.patterns.weighted import Weighted as Weighted
    from agentflow.policies import Limits as Limits, Retry as Retry
    from agentflow.run import Run as Run, RunResult as RunResult
    from agentflow.runner import Runner as Runner
    from agentflow.services.artifacts import (
        Artifact as Artifact,
        ArtifactInfo as ArtifactInfo,
        ArtifactService as ArtifactService,
        StoredArtifact as StoredArtifact,
    )
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
    from agentflow.services.sqlite import SQLiteStore as SQLiteStore

__version__ = "0.1.0"

_HOMES = {
    "agentflow._sync": ("SyncRun",),
    "agentflow.agents.branches": ("Branch", "Branches"),
    "agentflow.agents.function": ("FunctionAgent", "agent"),
    "agentflow.agents.loop": ("LoopAgent",),
    "agentflow.agents.parallel": ("ParallelAgent",),
    "agentflow.agents.sequential": ("SequentialAgent",),
    "agentflow.batch": ("Batch", "BatchInput", "BatchProgress", "BatchResult", "run_batch"),
    "agentflow.content": (
        "Blob",
        "Data",
        "FileRef",
        "Part",
        "ProviderBlock",
        "Text",
        "Thinking",
        "ToolCall",
        "ToolResult",
    ),
    "agentflow.core": ("Agent", "InvocationContext", "Plugin", "Tool"),
    "agentflow.errors": (
        "AgentTimeout",
        "AgentflowError",
        "BatchStopped",
        "CommitUnknown",
        "ConfigError",
        "ContextEnded",
        "InvalidAnswer",
        "InvalidEvent",
        "LimitExceeded",
        "NoDecision",
        "PluginError",
        "RunError",
        "RunNotFound",
        "ServiceError",
        "SessionBusy",
        "SessionError",
        "SessionExists",
        "SessionNotFound",
        "StaleSession",
        "StateConflict",
        "TooFewAnswers",
    ),
    "agentflow.events": ("Actions", "ErrorInfo", "Event", "Usage"),
    "agentflow.outcome": ("Outcome",),
    "agentflow.patterns.aggregate": (
        "Aggregator",
        "Collect",
        "Combine",
        "Decision",
        "First",
        "Given",
        "Panel",
        "Synthesis",
    ),
    "agentflow.patterns.answers": ("canonical", "similarity"),
    "agentflow.patterns.competition": ("CompetitionAgent",),
    "agentflow.patterns.consensus": ("Consensus",),
    "agentflow.patterns.decompose": ("DecompositionAgent",),
    "agentflow.patterns.executor": ("ParallelExecutor", "Task", "TaskResult"),
    "agentflow.patterns.fan_out": ("FanOutFanIn", "FanOutResult"),
    "agentflow.patterns.graph": ("Graph", "GraphAgent", "GraphResult", "Node"),
    "agentflow.patterns.judge": ("Judge",),
    "agentflow.patterns.map_reduce": ("FailedChunk", "MapReduceAgent", "MapReduceResult"),
    "agentflow.patterns.policies": ("Hedge",),
    "agentflow.patterns.rating": ("Rubric", "Verdict"),
    "agentflow.patterns.result": (
        "BranchResult",
        "CompetitionResult",
        "DecompositionResult",
        "Metrics",
        "ScatterGatherResult",
        "Subtask",
    ),
    "agentflow.patterns.scatter_gather": ("ScatterGatherAgent",),
    "agentflow.patterns.splitters": (
        "Chunk",
        "FileSplitter",
        "RecordSplitter",
        "SectionSplitter",
        "SentenceSplitter",
        "TokenSplitter",
    ),
    "agentflow.patterns.voting": ("Voting",),
    "agentflow.patterns.weighted": ("Weighted",),
    "agentflow.policies": ("Limits", "Retry"),
    "agentflow.run": ("Run", "RunResult"),
    "agentflow.runner": ("Runner",),
    "agentflow.services.artifacts": ("Artifact", "ArtifactInfo", "ArtifactService", "StoredArtifact"),
    "agentflow.services.inmemory": ("InMemoryArtifactService", "InMemoryMemoryService", "InMemorySessionService"),
    "agentflow.services.memory": ("MemoryHit", "MemoryService"),
    "agentflow.services.sessions": ("Session", "SessionInfo", "SessionKey", "SessionService"),
    "agentflow.services.sqlite": ("SQLiteStore",),
}
_home_of = {name: home for home, names in _HOMES.items() for name in names}
__all__ = sorted([*_home_of, "__version__"])


def __getattr__(name: str) -> Any:
    home = _home_of.get(name)
    if home is None:
        raise AttributeError(f"module 'agentflow' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(home), name)
    return value


def __dir__() -> list[str]:
    return __all__
