"""IEBN and RBN for JAX's libraries: a subclass of each one's own batch normalisation, and what puts it in a model."""
