"""What SQL databases have in common: tables, migrations, one writer with group commit, sessions, artifacts.

Nothing here knows SQLite: what it does differently from others is in `agentflow.services._sqlite`, behind `Driver`.
"""
