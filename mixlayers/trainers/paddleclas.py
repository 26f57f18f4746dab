"""An operator for PaddleClas' YAML: mixing in `batch_transform_ops`.

PaddleClas finds operators by their names in its own module: call `register()` before it reads the configuration, in
`tools/train.py` for example, and write

    batch_transform_ops:
      - MixOperator:
          method: OneOf([Mixup(0.2), CutMix()])
"""

from __future__ import annotations

import ast
from importlib import import_module
from typing import Any

import mixlayers
from mixlayers._core.methods.method import Method
from mixlayers.paddle import MixCollate


class MixOperator:
    """Mixes a batch of PaddleClas, [(image, label, ...), ...]; labels become soft, (class_num,) each.

    Args:
        class_num: K; PaddleClas gives the configuration's own, `Arch.class_num` or `Global.class_num`.
        method: An input method as one writes it in Python, "Mixup(0.2)", or the method itself.
        seed: The run's seed.
        rank: The process's number; give different ranks different numbers.
        smoothing: Label smoothing epsilon in [0, 1).

    Raises:
        ValueError: If class_num is missing, or the method is none of mixlayers'.
    """

    def __init__(
        self,
        class_num: int | None = None,
        method: str | Method = "Mixup(0.2)",
        seed: int = 0,
        rank: int = 0,
        smoothing: float = 0.0,
    ) -> None:
        if not class_num:
            raise ValueError(
                f"MixOperator needs the number of classes, got class_num={class_num}: set it in the "
                "configuration (Arch.class_num, or Global.class_num)."
            )
        made = parse_method(method) if isinstance(method, str) else method
        self._collate = MixCollate(made, class_num, seed=seed, rank=rank, smoothing=smoothing)

    def __call__(self, batch: list[Any]) -> list[Any]:
        """The mixed batch, in the same form."""
        images, targets = self._collate([(item[0], int(item[1])) for item in batch])
        return [
            (image, target, *item[2:]) for image, target, item in zip(images, targets, batch, strict=True)
        ]


def register() -> None:
    """Give PaddleClas the operator.

    Raises:
        ModuleNotFoundError: If PaddleClas is not installed.
    """
    try:
        preprocess = import_module("ppcls.data.preprocess")
    except ModuleNotFoundError as error:
        if error.name not in ("ppcls", "ppcls.data"):
            raise
        raise ModuleNotFoundError(
            "register() needs PaddleClas, which is not installed: pip install paddleclas, or run in its checkout",
            name="ppcls",
        ) from error
    preprocess.MixOperator = MixOperator  # type: ignore[attr-defined]


def parse_method(text: str) -> Method:
    """A method from its Python expression; nothing else is evaluated.

    Raises:
        ValueError: If it is not one.
    """
    try:
        made = _value(ast.parse(text, mode="eval").body)
    except (SyntaxError, KeyError) as error:
        made = error
    if not isinstance(made, Method):
        raise ValueError(f"method must be one of mixlayers' as Python writes it, Mixup(0.2), got {text!r}.")
    return made


def _value(node: ast.expr) -> Any:
    """The value of an expression of method calls, numbers, strings, lists, dicts and tuples."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        name = node.func.id
        if name not in mixlayers.__all__:
            raise KeyError(name)
        arguments = {word.arg: _value(word.value) for word in node.keywords if word.arg}
        return getattr(mixlayers, name)(*map(_value, node.args), **arguments)
    if isinstance(node, ast.Dict) and None not in node.keys:
        return {
            _value(key): _value(value)
            for key, value in zip(node.keys, node.values, strict=True)
            if key is not None
        }
    if isinstance(node, ast.List | ast.Tuple):
        return [_value(item) for item in node.elts]
    try:
        return ast.literal_eval(node)
    except ValueError as error:
        raise KeyError(ast.unparse(node)) from error
