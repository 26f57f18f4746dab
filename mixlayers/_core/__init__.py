"""The core, in pure NumPy: it decides. Backends and the public faces carry out; no framework is imported here.

Floors, each importing those below it only (the `layers` contract in pyproject.toml):

    model      one model's mixing: passes, hooks, scopes, the mixer
    audit      which layers may mix: graph, experiment, report
    batch      whole inputs and targets mixed by a plan; collating, sampling, padding masks
    labels     what a label is, mixed targets, losses and metrics
    methods    what draws a plan: Mixup, CutMix, PatchUp, DropBlock, methods made of methods
    augment    policies for single images
    framework  what is asked of a framework, and NumPy as one
    plan       what one step does: lam, perm, mask, layer, and the random streams
    checks, errors, install
"""
