"""How good answers become, and what that costs: aggregators on noisy answers of known accuracy and correlation."""
