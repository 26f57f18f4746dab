"""The studies on CIFAR-10: `python examples/cifar10.py` lists them."""
