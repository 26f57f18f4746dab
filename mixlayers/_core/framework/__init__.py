"""What the core asks of a framework, NumPy as one, and containers of tensors. Imports plan."""
