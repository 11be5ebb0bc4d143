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
    from agentflow.agents.llm import (
        LlmAgent as LlmAgent,
        TokenBudget as TokenBudget,
        fill_instruction as fill_instruction,
    )
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
    from agentflow.core import (
        Agent as Agent,
        InvocationContext as InvocationContext,
        Plugin as Plugin,
        Tool as Tool,
        ToolContext as ToolContext,
    )
    from agentflow.errors import (
        AgentflowError as AgentflowError,
        AgentTimeout as AgentTimeout,
        AnswerRefused as AnswerRefused,
        BatchStopped as BatchStopped,
        CommitUnknown as CommitUnknown,
        ConfigError as ConfigError,
        ContextEnded as ContextEnded,
        InstructionError as InstructionError,
        InvalidAnswer as InvalidAnswer,
        InvalidArchive as InvalidArchive,
        InvalidArguments as InvalidArguments,
        InvalidCursor as InvalidCursor,
        InvalidEvent as InvalidEvent,
        LimitExceeded as LimitExceeded,
        ModelError as ModelError,
        NoDecision as NoDecision,
        NotConfirmed as NotConfirmed,
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
        ToolError as ToolError,
        ToolTimeout as ToolTimeout,
    )
    from agentflow.events import Actions as Actions, ErrorInfo as ErrorInfo, Event as Event, Usage as Usage
    from agentflow.models.anthropic import AnthropicModel as AnthropicModel
    from agentflow.models.base import (
        CallSite as CallSite,
        Capabilities as Capabilities,
        Message as Message,
        Model as Model,
        ModelRequest as ModelRequest,
        ModelResponse as ModelResponse,
        ModelSettings as ModelSettings,
        OutputSchema as OutputSchema,
        Refusal as Refusal,
        ServerTool as ServerTool,
        ToolSpec as ToolSpec,
    )
    from agentflow.models.fallback import FallbackModel as FallbackModel
    from agentflow.models.limiter import ConcurrencyLimiter as ConcurrencyLimiter
    from agentflow.models.openai import OpenAIModel as OpenAIModel
    from agentflow.models.prices import Price as Price
    from agentflow.models.pydantic_ai import PydanticAIModel as PydanticAIModel
    from agentflow.models.registry import register_model as register_model, resolve_model as resolve_model
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
    from agentflow.questions import Confirmation as Confirmation, Paused as Paused, Question as Question
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
    from agentflow.tools.agent import AgentTool as AgentTool
    from agentflow.tools.builtin import (
        LoadArtifacts as LoadArtifacts,
        PreloadMemory as PreloadMemory,
        exit_loop as exit_loop,
        load_memory as load_memory,
        save_artifact as save_artifact,
    )
    from agentflow.tools.function import FunctionTool as FunctionTool, tool as tool
    from agentflow.tools.mcp import McpToolset as McpToolset
    from agentflow.tools.toolset import Toolset as Toolset

__version__ = "0.1.0"

_HOMES = {
    "agentflow._sync": ("SyncRun",),
    "agentflow.agents.branches": ("Branch", "Branches"),
    "agentflow.agents.function": ("FunctionAgent", "agent"),
    "agentflow.agents.llm": ("LlmAgent", "TokenBudget", "fill_instruction"),
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
    "agentflow.core": ("Agent", "InvocationContext", "Plugin", "Tool", "ToolContext"),
    "agentflow.errors": (
        "AgentTimeout",
        "AgentflowError",
        "AnswerRefused",
        "BatchStopped",
        "CommitUnknown",
        "ConfigError",
        "ContextEnded",
        "InstructionError",
        "InvalidAnswer",
        "InvalidArchive",
        "InvalidArguments",
        "InvalidCursor",
        "InvalidEvent",
        "LimitExceeded",
        "ModelError",
        "NoDecision",
        "NotConfirmed",
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
        "ToolError",
        "TooFewAnswers",
        "ToolTimeout",
    ),
    "agentflow.events": ("Actions", "ErrorInfo", "Event", "Usage"),
    "agentflow.models.anthropic": ("AnthropicModel",),
    "agentflow.models.base": (
        "CallSite",
        "Capabilities",
        "Message",
        "Model",
        "ModelRequest",
        "ModelResponse",
        "ModelSettings",
        "OutputSchema",
        "Refusal",
        "ServerTool",
        "ToolSpec",
    ),
    "agentflow.models.fallback": ("FallbackModel",),
    "agentflow.models.limiter": ("ConcurrencyLimiter",),
    "agentflow.models.openai": ("OpenAIModel",),
    "agentflow.models.prices": ("Price",),
    "agentflow.models.pydantic_ai": ("PydanticAIModel",),
    "agentflow.models.registry": ("register_model", "resolve_model"),
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
    "agentflow.questions": ("Confirmation", "Paused", "Question"),
    "agentflow.run": ("Run", "RunResult"),
    "agentflow.runner": ("Runner",),
    "agentflow.services.artifacts": ("Artifact", "ArtifactInfo", "ArtifactService", "StoredArtifact"),
    "agentflow.services.inmemory": ("InMemoryArtifactService", "InMemoryMemoryService", "InMemorySessionService"),
    "agentflow.services.memory": ("MemoryHit", "MemoryService"),
    "agentflow.services.sessions": ("Session", "SessionInfo", "SessionKey", "SessionService"),
    "agentflow.services.sqlite": ("SQLiteStore",),
    "agentflow.tools.agent": ("AgentTool",),
    "agentflow.tools.builtin": ("LoadArtifacts", "PreloadMemory", "exit_loop", "load_memory", "save_artifact"),
    "agentflow.tools.function": ("FunctionTool", "tool"),
    "agentflow.tools.mcp": ("McpToolset",),
    "agentflow.tools.toolset": ("Toolset",),
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
