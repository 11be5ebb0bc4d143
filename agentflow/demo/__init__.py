"""The document analysis of `agentflow demo`: its text, its analysts, its agents."""
