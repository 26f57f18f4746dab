"""IEBN, and RBN, its sibling. The rooms have the same names in every backend:

`layer` (the layers), `rbn` (RBN's), `act` (with an activation), `sync` (over several processes), `given` (what a call
is given), `choose` (which way it goes), and the ways: `plain` in the framework's operations; `passes` over memory, in C
by `native` on the CPU and, IEBN's, in Triton by `gpu`; IEBN's `inductor` for torch.compile. `join` is what processes
exchange. `convert` puts them in the place of BatchNorm, `holders` finds who knew the model before, `update_bn` sets
statistics.
"""
