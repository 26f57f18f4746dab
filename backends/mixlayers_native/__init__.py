"""IEBN's passes over memory in C, for the arrays of any framework on the CPU; where it is not built, nothing is lost.

`_build` compiles `iebn.c` where there is a compiler, when mixlayers is installed (`_hook`). `_library` finds it,
`_iebn` calls it. Knows NumPy and addresses, no framework.
"""
