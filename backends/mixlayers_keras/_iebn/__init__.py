"""IEBN as a layer of Keras 3, and what puts it in a model."""
