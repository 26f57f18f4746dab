"""Whole batches: inputs and targets mixed by a plan, collated, sampled. Imports labels and methods."""
