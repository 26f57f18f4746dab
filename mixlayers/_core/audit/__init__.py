"""The audit: which layers are true mixing points, by graph and by experiment. Imports batch and below."""
