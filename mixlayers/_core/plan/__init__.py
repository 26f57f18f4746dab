"""A step's plan: lam, permutation, mask recipe and layer, and how each is drawn. Imports checks alone."""
