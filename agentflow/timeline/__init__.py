"""What happened in a stored run: turns, waits, retries and outcomes, read off its events; and pictures of it."""
