"""Bigger shapes, made of agents and agents themselves."""
