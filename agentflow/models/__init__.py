"""Who thinks: what a model is asked, what it answers, and the models themselves."""
