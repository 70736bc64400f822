"""What a target's score and its negatives' scores cost: criteria of the losses in `sampled_losses`.

A criterion takes fp32 scores [..., 1 + K], the target's first and -inf for negatives that do not count. It returns
the losses [...] and leaves their gradient in place of the scores: one buffer, and nothing kept for a backward pass.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

Criterion = Callable[[Tensor], Tensor]


def softmax(scores: Tensor) -> Tensor:
    """-log of the target's share of the sum of exponents. Saturates at 87 nats; its gradient does not."""
    torch.softmax(scores, dim=-1, out=scores)
    own = scores[..., 0]
    losses = -own.clamp(min=torch.finfo(torch.float32).tiny).log()
    own.sub_(1)
    return losses


def sigmoid(beta: float, share: float) -> Criterion:
    """share x (-beta log s(target) - sum over negatives of log(1 - s(negative))), s the logistic function.

    With beta 1 the binary cross-entropy. log s(x)^beta is beta log s(x), a softplus: nothing here needs the double
    precision of the authors' code, which makes a logit of s(x)^beta first.
    """

    def criterion(scores: Tensor) -> Tensor:
        own, others = scores[..., 0], scores[..., 1:]
        losses = F.softplus(others).sum(-1).add_(F.softplus(-own), alpha=beta)
        scores.sigmoid_()
        own.sub_(1).mul_(beta)
        scores.mul_(share)
        return losses.mul_(share)

    return criterion


def pairwise(scores: Tensor) -> Tensor:
    """The mean over negatives of -log s(target - negative), s the logistic function."""
    own, others = scores[..., :1], scores[..., 1:]
    others.sub_(own)
    losses = F.softplus(others).mean(-1)
    others.sigmoid_().div_(others.shape[-1])
    own.copy_(others.sum(-1, keepdim=True).neg_())
    return losses
