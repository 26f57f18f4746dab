"""Which layers of a Keras model may be mixed."""

from __future__ import annotations

from typing import Any

import keras

from mixlayers._core.audit.report import Audit
from mixlayers_keras._engine import ENGINE


def audit(model: keras.Model, example: Any) -> Audit:
    """Tell which layers are true mixing points: everything of a sample passes through them.

    The model is looked at in training mode, and left as it was. On JAX and TensorFlow it is traced, and not run: its
    jaxpr, or graph, tells whether anything goes round a layer. On PyTorch the graph of a forward of four samples tells,
    and then forwards in which every sample gets another's features there. Padding masks that Keras itself hands on are
    no way round.

    Args:
        model: Any keras.Model.
        example: What it takes as x: an array, or a list or dict of arrays.

    Raises:
        ValueError: If the output does not depend on the example in a differentiable way.
    """
    return ENGINE.audit(model, ENGINE.tensors(example))
