"""From item vectors to codes: residual k-means, or RQ-VAE's learned vectors and codebooks.

A vector's first code is its nearest centroid of the first level; what the centroid leaves over, the residual, is coded
by the second level, and so on (residual quantisation, as in Lee et al. 2022, arXiv 2203.01941, eq. 1-3).

Residual k-means finds a level's centroids by Lloyd's iterations on the residuals of the level before. RQ-VAE (TIGER,
Rajput et al. 2023, arXiv 2305.05065, section 3.1) learns an encoder, a decoder and the codebooks together:

  loss = |x - decoder(z + stop(q - z))|^2 + sum over levels d of |stop(r_d) - e_d|^2 + commitment |r_d - stop(e_d)|^2

with z = encoder(x), residuals r_d, their centroids e_d and q = sum e_d. Codebooks begin as residual k-means of z, and a
code that no vector has chosen for a while begins anew at a residual (arXiv 2203.01941, section 4). Deviations: one
hidden layer and Adam where TIGER has three and Adagrad, and every step sees up to BATCH vectors.

Legend: N vectors, W their width, Z width of what is quantised, H hidden width, C codes of a level, S levels.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from seqrec_cli.saying import Say

LLOYD = 30  # iterations of k-means at most
CHUNK = 1 << 24  # numbers of one block of distances
BATCH = 1024
RATE = 1e-3
RESTARTED_EVERY = 100  # steps


@dataclass(frozen=True)
class RqVae:
    """Sizes of the autoencoder, and how it is trained."""

    hidden: int
    latent: int
    steps: int
    commitment: float


class Quantiser(nn.Module):
    """Fitted once, before training. Its buffers have the sizes of what it was fitted to, also when they are loaded."""

    centroids_SCZ: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("centroids_SCZ", "mean_W", "up_WH", "up_bias_H", "down_HZ", "down_bias_Z"):
            self.register_buffer(name, torch.zeros(0))

    def fit(self, x_NW: Tensor, levels: int, codes: int, *, rqvae: RqVae | None, seed: int, tell: Say) -> None:
        """Learn the centroids of vectors in fp32; the same seed gives the same ones."""
        generator = torch.Generator().manual_seed(seed)
        self.mean_W = x_NW.mean(0)
        if rqvae is None:
            self.up_WH = self.up_bias_H = self.down_HZ = self.down_bias_Z = torch.zeros(0)
            self.centroids_SCZ = residual_kmeans(self.latent(x_NW), levels, codes, generator=generator)
        else:
            _train(self, x_NW - self.mean_W, (levels, codes), cfg=rqvae, generator=generator, tell=tell)

    def latent(self, x_NW: Tensor) -> Tensor:
        """What is quantised [N, Z] of vectors [N, W]."""
        x = x_NW - self.mean_W
        if not self.up_WH.numel():
            return x
        return torch.relu(x @ self.up_WH + self.up_bias_H) @ self.down_HZ + self.down_bias_Z

    def codes(self, z_NZ: Tensor) -> Tensor:
        """The nearest centroids, level by level: int64 [N, S]."""
        found, residual_NZ = [], z_NZ
        for centroids_CZ in self.centroids_SCZ:
            codes_N = nearest(residual_NZ, centroids_CZ)
            residual_NZ = residual_NZ - centroids_CZ[codes_N]
            found.append(codes_N)
        return torch.stack(found, dim=1)

    def decoded(self, codes_NS: Tensor) -> Tensor:
        """The sums of centroids [N, Z] that codes stand for."""
        levels = zip(self.centroids_SCZ, codes_NS.unbind(1), strict=True)
        return torch.stack([centroids_CZ[codes_N] for centroids_CZ, codes_N in levels]).sum(0)

    def _load_from_state_dict(self, state_dict, prefix, *rest) -> None:  # type: ignore[no-untyped-def]
        for name, buffer in list(self._buffers.items()):
            stored = state_dict.get(prefix + name)
            if buffer is not None and stored is not None and stored.shape != buffer.shape:
                self._buffers[name] = torch.empty_like(stored, device=buffer.device)
        super()._load_from_state_dict(state_dict, prefix, *rest)


def nearest(x_NZ: Tensor, centroids_CZ: Tensor) -> Tensor:
    """The index of each vector's nearest centroid, of equals the first: int64 [N]."""
    return squared_distances(x_NZ, centroids_CZ).argmin(1)


def squared_distances(x_NZ: Tensor, centroids_CZ: Tensor) -> Tensor:
    """[N, C], in blocks of rows."""
    rows, own_C = max(1, CHUNK // max(len(centroids_CZ), 1)), centroids_CZ.square().sum(1)
    parts = [own_C - 2 * part @ centroids_CZ.T + part.square().sum(1, keepdim=True) for part in x_NZ.split(rows)]
    return torch.cat(parts).clamp(min=0)


def residual_kmeans(x_NZ: Tensor, levels: int, codes: int, *, generator: torch.Generator) -> Tensor:
    """Centroids [S, C, Z] of each level, of what the levels before it leave over."""
    found, residual_NZ = [], x_NZ
    for _ in range(levels):
        centroids_CZ = kmeans(residual_NZ, codes, generator)
        residual_NZ = residual_NZ - centroids_CZ[nearest(residual_NZ, centroids_CZ)]
        found.append(centroids_CZ)
    return torch.stack(found)


def kmeans(x_NZ: Tensor, codes: int, generator: torch.Generator) -> Tensor:
    """Centroids [C, Z] by Lloyd's iterations from k-means++ (Arthur & Vassilvitskii 2007); a centroid that loses all
    its vectors moves to the vector that is farthest from its own. With fewer distinct vectors than codes some stay
    alike, and of equals the first is used."""
    centroids_CZ = _plus_plus(x_NZ, codes, generator)
    assigned_N = None
    for _ in range(LLOYD):
        distances_NC = squared_distances(x_NZ, centroids_CZ)
        least_N, codes_N = distances_NC.min(1)
        if assigned_N is not None and torch.equal(codes_N, assigned_N):
            break
        assigned_N = codes_N
        counts_C = torch.bincount(codes_N, minlength=codes)
        sums_CZ = torch.zeros_like(centroids_CZ).index_add_(0, codes_N, x_NZ)
        means_CZ = sums_CZ / counts_C.clamp(min=1)[:, None]
        empty_E = (counts_C == 0).nonzero()[:, 0][: len(x_NZ)]
        centroids_CZ = torch.where((counts_C > 0)[:, None], means_CZ, centroids_CZ)
        if len(empty_E) and float(least_N.max()) > 0:
            centroids_CZ[empty_E] = x_NZ[least_N.argsort(descending=True, stable=True)[: len(empty_E)]]
    return centroids_CZ


def _plus_plus(x_NZ: Tensor, codes: int, generator: torch.Generator) -> Tensor:
    """First centroids: vectors drawn with a probability that grows with the distance to those drawn before."""
    first = int(torch.randint(len(x_NZ), (), generator=generator))
    chosen, least_N = [first], (x_NZ - x_NZ[first]).square().sum(1)
    for _ in range(codes - 1):
        ends_N = least_N.double().cumsum(0)
        draw = torch.rand((), generator=generator, dtype=torch.float64) * ends_N[-1]
        nth = min(int(torch.searchsorted(ends_N, draw, right=True)), len(x_NZ) - 1)
        chosen.append(nth)
        least_N = torch.minimum(least_N, (x_NZ - x_NZ[nth]).square().sum(1))
    return x_NZ[chosen].clone()


def _train(
    into: Quantiser,
    x_NW: Tensor,
    size: tuple[int, int],
    *,
    cfg: RqVae,
    generator: torch.Generator,
    tell: Say,
) -> None:
    """RQ-VAE's training, of so many levels and codes; fills the quantiser's buffers."""

    def weights(inputs: int, outputs: int) -> Tensor:
        return (torch.randn(inputs, outputs, generator=generator) * inputs**-0.5).requires_grad_()

    (levels, codes), W, H, Z = size, x_NW.shape[1], cfg.hidden, cfg.latent
    up, down, back_up, back_down = weights(W, H), weights(H, Z), weights(Z, H), weights(H, W)
    biases = [torch.zeros(size, requires_grad=True) for size in (H, Z, H, W)]

    def encode(x: Tensor) -> Tensor:
        return torch.relu(x @ up + biases[0]) @ down + biases[1]

    with torch.no_grad():
        books_SCZ = residual_kmeans(encode(x_NW), levels, codes, generator=generator)
    books_SCZ.requires_grad_()
    optimizer = torch.optim.Adam([up, down, back_up, back_down, *biases, books_SCZ], RATE)
    used_SC = torch.zeros(levels, codes, dtype=torch.bool)
    for step in range(1, cfg.steps + 1):
        x = x_NW
        if len(x_NW) > BATCH:
            x = x_NW[torch.randint(len(x_NW), (BATCH,), generator=generator)]
        z = encode(x)
        residual, terms, residuals = z, [], []
        for level in range(levels):
            with torch.no_grad():
                nth = nearest(residual, books_SCZ[level])
                used_SC[level, nth] = True
                residuals.append(residual)
            chosen = books_SCZ[level][nth]
            terms.append(
                (residual.detach() - chosen).square().sum(1).mean()
                + cfg.commitment * (residual - chosen.detach()).square().sum(1).mean()
            )
            residual = residual - chosen.detach()
        quantised = z + (-residual).detach()  # z + stop(q - z): the gradient passes straight through
        restored = torch.relu(quantised @ back_up + biases[2]) @ back_down + biases[3]
        loss = (x - restored).square().sum(1).mean() + torch.stack(terms).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % RESTARTED_EVERY == 0 and step + RESTARTED_EVERY <= cfg.steps:
            with torch.no_grad():
                for level, unused_C in enumerate(~used_SC):
                    count = int(unused_C.sum())
                    drawn = torch.randint(len(x), (count,), generator=generator)
                    books_SCZ[level, unused_C] = residuals[level][drawn]
            used_SC.zero_()
    tell(f"RQ-VAE: loss {loss.item():.4g} after {cfg.steps:,} steps")
    into.up_WH, into.up_bias_H, into.down_HZ, into.down_bias_Z = (
        each.detach() for each in (up, biases[0], down, biases[1])
    )
    into.centroids_SCZ = books_SCZ.detach()


def perplexity(codes_N: Tensor, codes: int) -> float:
    """How many codes are in use, as if all were used alike: e to the entropy of their shares."""
    shares_C = torch.bincount(codes_N, minlength=codes) / max(len(codes_N), 1)
    return math.exp(float(-torch.special.xlogy(shares_C, shares_C).sum()))
