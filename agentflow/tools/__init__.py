"""What a model may call: functions, agents, servers of tools, and what comes with the house."""
