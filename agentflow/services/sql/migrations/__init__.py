"""Migrations of the tables, oldest first; see `agentflow.services.sql.migrate`."""
