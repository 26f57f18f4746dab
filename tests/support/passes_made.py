"""Passes and calls in every state, without a framework."""

import sys
from weakref import ref

import numpy as np

from mixlayers import ManifoldMixup, MixedTarget
from mixlayers._core.model.passes import Call, Pass
from mixlayers._core.model.session import Session

SHARES = [(0.25, (4, 3))]


class Model:
    """Something that a weak reference can be made to."""


MODEL = Model()


def session(method=None, **options):
    made = Session(method or ManifoldMixup(), 0, lambda: 0, **options)
    made.places = ("layer",)
    return made


def clean(of=None):
    """A pass that is not to be mixed."""
    return Pass(of or session(), ref(MODEL))


def planned(of=None):
    """A pass that is to be mixed."""
    mixed = clean(of)
    mixed.follow(mixed.session.draw(4))
    mixed.users.append(MixedTarget(np.arange(4)))
    return mixed


def call_of(mixed, top=None, segments=()):
    """Its forward, which runs here."""
    return Call(mixed, top, segments, sys._getframe(), True)


def left(of=None):
    """A pass whose forward was mixed and has returned."""
    call = call_of(planned(of))
    call.mark_mixed("layer", SHARES)
    call.check_mixed()
    return call.mixed


def use(mixed):
    """Have a pass's target used."""
    mixed.users[0].blend(lambda y: y)
