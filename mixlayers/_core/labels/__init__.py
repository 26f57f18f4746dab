"""Labels: what they mean, their mixed form, and the losses and metrics on them. Imports plan and framework."""
