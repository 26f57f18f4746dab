"""IEBN, and RBN, its sibling. The rooms have the same names in every backend: see `mixlayers_torch._iebn`."""
