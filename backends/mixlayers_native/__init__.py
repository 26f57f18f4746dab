"""IEBN's and RBN's passes over memory in C, for any framework's arrays on the CPU; where not built, nothing is lost.

`_build` compiles `iebn.c` where there is a compiler, when mixlayers is installed (`_hook`). `_library` finds it,
`_iebn` calls it. Knows NumPy and addresses, no framework.
"""
