"""What agentflow costs, next to bare anyio and to its peers: run `python -m benchmarks`."""
