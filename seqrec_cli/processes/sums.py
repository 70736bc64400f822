"""A sum over processes as an operation of autograd."""

from typing import Any

from torch import Tensor
from torch.autograd.function import Function, once_differentiable

from seqrec_cli.processes import Processes


class Summed(Function):
    """y = sum over ranks r of x_r. What is minimised is the sum of the ranks' losses, each of which may read y, so the
    gradient of x_r is the sum over ranks s of d loss_s / d y."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, processes: Processes) -> Tensor:
        ctx.processes = processes
        return processes.sum(tensor.contiguous().clone())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return ctx.processes.sum(grads[0].contiguous().clone()), None
