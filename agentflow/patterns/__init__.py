"""Bigger shapes, made of agents and branches: many answers to one question, long texts, graphs of steps."""
