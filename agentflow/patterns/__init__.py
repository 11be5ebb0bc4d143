"""Bigger shapes, made of agents and branches: many answers to one question, and how they become one."""
