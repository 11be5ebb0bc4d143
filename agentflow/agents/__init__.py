"""Who takes a turn: the agents that direct others, and functions as agents."""
