"""The same work in other frameworks, each run by the Python of its own virtual environment.

Every module offers the same functions, or raises `Unavailable`: `merge`, `sequence`, `wait`. Agents are custom code
without a model; nothing here needs a network.
"""
