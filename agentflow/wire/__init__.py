"""Streams for other programs: a run's events as bytes, and back. No I/O: any server and any client can use it."""
