"""The processes of a run, one a device, as torchrun starts them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
import torch.distributed as dist
from torch import Tensor, nn


@dataclass(frozen=True)
class Processes:
    """This process among those of the run; alone where torchrun didn't start it."""

    rank: int = 0
    world: int = 1
    local_rank: int = 0

    @classmethod
    def from_environment(cls) -> Self:
        """As torchrun's variables say."""
        names = (("RANK", "0"), ("WORLD_SIZE", "1"), ("LOCAL_RANK", "0"))
        return cls(*(int(os.environ.get(name, default)) for name, default in names))

    @property
    def first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def connect(self, device: torch.device) -> None:
        """Join the others."""
        if self.world > 1 and not dist.is_initialized():
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo")

    def wait(self) -> None:
        """Until all have come here."""
        if self.world > 1:
            dist.barrier()

    def average(self, parameters: Sequence[nn.Parameter], loss: Tensor) -> float:
        """Average the gradients of ``parameters`` over all processes, in place; returns the mean
        loss, the same in all of them, so that they agree about it."""
        if self.world == 1:
            return float(loss.detach())
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([loss.detach().reshape(1), *(g.reshape(-1) for g in gradients)])
        dist.all_reduce(flat)
        flat /= self.world
        at = 1
        for gradient in gradients:
            gradient.copy_(flat[at : at + gradient.numel()].view_as(gradient))
            at += gradient.numel()
        return float(flat[0])

    def follow_first(self, seconds: float, stop: bool, device: torch.device) -> tuple[float, bool]:
        """The first process's clock and whether it is to stop: all of them follow it."""
        if self.world == 1:
            return seconds, stop
        shared = torch.tensor([seconds, stop], device=device, dtype=torch.float64)
        dist.broadcast(shared, 0)
        return float(shared[0]), bool(shared[1])
