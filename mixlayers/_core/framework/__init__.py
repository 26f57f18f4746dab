"""The interface of a framework, NumPy as one, and containers of tensors. Imports plan."""
