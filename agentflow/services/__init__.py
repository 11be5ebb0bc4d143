"""What is remembered: sessions, artifacts, memory."""
