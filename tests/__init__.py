"""The tests: `core` (NumPy alone), `shared` (one body, every framework), a folder a framework, `trainers`, `cli`,
`programs` (random ones against an oracle), `augment`, `repo` (documentation, house rules, installation).

`support` has what they share: the `fw_*` harnesses, the NumPy oracle, limits from error analysis.
"""
