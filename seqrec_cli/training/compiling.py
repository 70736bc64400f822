"""`hardware.compile=true`: the model's forward and backward as fused kernels, made by torch's compiler."""

import torch

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.models.contract import Recommender, SequenceEncoder


def compile_model(model: Recommender, device: torch.device) -> None:
    """Compile what a step runs: an encoder's `encode`, any other model's scores of candidates; batch sizes stay free.

    Raises SeqrecError where nothing can be compiled (a C++ compiler is needed, on a GPU also Triton).
    """
    try:
        torch.compile(torch.sin)(torch.ones(2, device=device))
    except Exception as error:  # the compiler's own kinds are private
        reason = str(error).strip().splitlines()[0]
        raise SeqrecError(
            f"hardware.compile=true: torch cannot compile here ({reason}); install a C++ compiler such as g++"
            f"{' and triton' if device.type == 'cuda' else ''}, or use hardware.compile=false"
        ) from error
    finally:
        torch.compiler.reset()
    if isinstance(model, SequenceEncoder):
        model.encode = torch.compile(model.encode, dynamic=True)  # type: ignore[method-assign]
        if type(model).encode_targets is not SequenceEncoder.encode_targets:  # that one calls `encode`
            model.encode_targets = torch.compile(model.encode_targets, dynamic=True)  # type: ignore[method-assign]
    else:
        model.score = torch.compile(model.score, dynamic=True)  # type: ignore[method-assign]
        model.score_positions = torch.compile(model.score_positions, dynamic=True)  # type: ignore[method-assign]
