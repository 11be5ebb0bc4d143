"""Who thinks: what a model is asked and what it answers."""
