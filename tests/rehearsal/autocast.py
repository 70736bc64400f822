"""Which operators autocast casts on CUDA, for the device that stands in for one (torch's "Autocast Op Reference")."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils._pytree import tree_iter, tree_map_only

aten = torch.ops.aten
LOW = ("mm", "addmm", "bmm", "baddbmm", "mv", "addmv", "matmul", "linear", "prelu", "scaled_dot_product_attention")
LOW += ("conv1d", "conv2d", "addbmm", "linalg_vecdot")
FLOAT32 = ("exp", "expm1", "log", "log1p", "reciprocal", "rsqrt", "softplus", "layer_norm", "logsumexp", "cumsum")
FLOAT32 += ("pow.Tensor_Scalar", "pow.Tensor_Tensor", "pow.Scalar", "softmax.int", "log_softmax.int", "prod")
FLOAT32 += ("sum", "sum.dim_IntList", "prod.dim_int", "cumprod", "nll_loss", "mse_loss", "cosine_similarity", "l1_loss")
FLOAT32 += ("binary_cross_entropy_with_logits", "norm.Scalar", "norm.ScalarOpt_dim", "kl_div", "smooth_l1_loss")
WIDEST = ("cat", "stack", "index_put", "scatter_add", "addcmul", "addcdiv", "dot", "tensordot", "atan2")


def cast_as_cuda_does(device: str) -> torch.library.Library:
    """The casts, as long as the library lives."""
    keys = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastPrivateUse1)
    library = torch.library.Library("aten", "IMPL", "AutocastPrivateUse1")

    def mine(given: Any) -> Iterator[torch.Tensor]:
        for leaf in tree_iter(given):
            if isinstance(leaf, torch.Tensor) and leaf.device.type == device and leaf.is_floating_point():
                yield leaf

    def low(given: Any) -> torch.dtype:
        return torch.get_autocast_dtype(device)

    def widest(given: Any) -> torch.dtype | None:
        wide = any(t.dtype == torch.float32 for t in mine(given))
        return torch.float32 if wide else None

    def kernel(operator: Any, wanted: Callable[[Any], torch.dtype | None]) -> Callable[..., Any]:
        def cast(*args: Any, **kwargs: Any) -> Any:
            with torch._C._ExcludeDispatchKeyGuard(keys):
                dtype = wanted((args, kwargs))
                if dtype is not None:
                    here = {id(t) for t in mine((args, kwargs)) if t.dtype != torch.float64}
                    args, kwargs = tree_map_only(
                        torch.Tensor, lambda t: t.to(dtype) if id(t) in here else t, (args, kwargs)
                    )
                return operator(*args, **kwargs)

        return cast

    for names, wanted in ((LOW, low), (FLOAT32, lambda _: torch.float32), (WIDEST, widest)):
        for name in names:
            packet, _, overload = name.partition(".")
            operator = getattr(getattr(aten, packet), overload or "default")
            library.impl(name, kernel(operator, wanted))
    return library
