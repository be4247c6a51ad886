"""
Processes that train one model together: each takes its rows of every batch, gradients are added up, all step alike.

Started by `torchrun`, one process for each GPU, or several on a machine without one. The batches are those of a single
process, so the loss curve is as well, up to the order in which floats are added.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import distributed, nn


@dataclass(frozen=True)
class Peers:
    """This process among those that train together; alone unless said otherwise."""

    rank: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def added_up(self, model: nn.Module, losses: dict[str, float]) -> dict[str, float]:
        """Sum gradients, in place, and losses over all processes. What no process has a gradient of keeps none."""
        if self.count == 1:
            return losses
        learned = [value for value in model.parameters() if value.requires_grad]
        has = torch.tensor([float(value.grad is not None) for value in learned], device=learned[0].device)
        flat = torch.cat([has, *((value.grad if value.grad is not None else torch.zeros_like(value)).flatten().float()
                                 for value in learned)])
        distributed.all_reduce(flat)
        has, flat = flat[: len(learned)], flat[len(learned) :]
        for value, some, summed in zip(learned, has.tolist(), flat.split([v.numel() for v in learned]), strict=True):
            value.grad = summed.view_as(value).to(value.dtype) if some else None
        everyone: list[dict[str, float]] = [{} for _ in range(self.count)]
        distributed.all_gather_object(everyone, losses)
        names = [name for name in max(everyone, key=len)]
        return {name: sum(one.get(name, 0.0) for one in everyone) for name in names}

    def told(self, value):
        """What the first process says, in every process; any picklable value."""
        if self.count == 1:
            return value
        said = [value]
        distributed.broadcast_object_list(said, src=0)
        return said[0]

    def any(self, flag: bool) -> bool:
        """Whether it holds in at least one process."""
        if self.count == 1:
            return flag
        total = torch.tensor([float(flag)])
        distributed.all_reduce(total)
        return bool(total.item())


@contextmanager
def joined() -> Iterator[Peers]:
    """The processes that `torchrun` started with this one; alone where it started none."""
    if not distributed.is_torchelastic_launched():
        yield Peers()
        return
    distributed.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    try:
        if torch.cuda.is_available():
            torch.cuda.set_device(distributed.get_node_local_rank())
        yield Peers(distributed.get_rank(), distributed.get_world_size())
    finally:
        distributed.destroy_process_group()
