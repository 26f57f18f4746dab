"""Mixing in other people's trainers: one module for each trainer, which alone imports it."""
