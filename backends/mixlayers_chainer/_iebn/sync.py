"""IEBN over the batches of several ranks."""

from __future__ import annotations

import copy
from typing import Any, TypeVar

import chainer

from mixlayers_chainer._iebn.layer import IEBN, become

Model = TypeVar("Model", bound=chainer.Link)


class MultiNodeIEBN(IEBN):
    """IEBN that normalises with the statistics of all ranks' batches together, for ChainerMN.

    Mean, variance and running statistics are those of the joint batch, whatever each rank's share of it; the attention
    comes from each instance and needs no other rank. One exchange of small arrays in the forward and one in the
    backward, by `comm.allreduce_obj`, so any communicator will do. While testing, or alone, it is IEBN. Gradients of
    parameters are each rank's own, for `chainermn.create_multi_node_optimizer` to average.

    Args:
        size: Shape of the channels, as in IEBN.
        comm: ChainerMN communicator. Copies of the link share it.
        arguments, options: Those of IEBN after size.
    """

    comm: Any

    def __init__(
        self, size: int | tuple[int, ...] | None, comm: Any, *arguments: Any, **options: Any
    ) -> None:
        super().__init__(size, *arguments, **options)
        self.comm = comm

    def _comm(self) -> Any:
        return self.comm if self.comm.size > 1 else None

    def __deepcopy__(self, memo: dict[int, Any]) -> MultiNodeIEBN:
        memo[id(self.comm)] = self.comm
        new = type(self).__new__(type(self))
        memo[id(self)] = new
        new.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return new

    @classmethod
    def convert_multi_node_iebn(cls, model: Model, comm: Any) -> Model:
        """Make every IEBN of a model a MultiNodeIEBN, in place, with the same parameters and statistics.

        Args:
            model: Any link, after `convert_iebn`; an IEBN that is the model itself is converted.
            comm: ChainerMN communicator.

        Returns:
            The model.

        Raises:
            ValueError: If the model holds no IEBN.
        """
        norms = [link for link in model.links() if isinstance(link, IEBN)]
        if not norms:
            raise ValueError(f"{type(model).__name__} holds no IEBN: convert_iebn(model) first.")
        for norm in norms:
            become(norm, cls)
            norm.comm = comm
        return model
