"""IEBN. The rooms have the same names in every backend:

`layer` (the layers), `act` (with an activation), `sync` (over several processes), `given` (what a call is given),
`choose` (which way it goes), and the ways: `plain` in the framework's operations; `passes` over memory, which
`native` makes in C on the CPU and `gpu` in Triton; `inductor` for torch.compile. `join` is what processes exchange.
`convert` puts IEBN in the place of BatchNorm, `holders` finds who knew the model before, `update_bn` sets statistics.
"""
