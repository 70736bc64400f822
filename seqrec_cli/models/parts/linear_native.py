"""Which layers' outputs go on to passes in C that add the bias themselves: on a CPU in bf16, where what stands between
the products costs as much as a third of them. In fp32 the products cost twice as much and torch's operators serve."""

import torch
from torch import Tensor, nn

WIDEST = 1 << 14  # channels: some rows lie on a thread's stack


def product_is_bf16(layer: nn.Linear, x: Tensor) -> bool:
    """Whether the layer makes bf16 of x on a CPU, by operators one by one, and has a bias in fp32 to add to it."""
    if x.device.type != "cpu" or torch.compiler.is_compiling() or layer.out_features > WIDEST:
        return False
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
    return dtype == torch.bfloat16 and layer.bias is not None and layer.bias.dtype == torch.float32


def product(layer: nn.Linear, x: Tensor) -> Tensor:
    """The layer's output without its bias."""
    return nn.functional.linear(x, layer.weight)
