"""Rules between settings that several models share."""


def heads_divide(embed_dim: int, heads: int, positions: str = "none") -> None:
    """Refuse a width that does not split evenly over the attention heads, or heads that cannot be rotated."""
    if embed_dim % heads:
        lower = embed_dim // heads * heads
        near = " or ".join(str(width) for width in (lower, lower + heads) if width)
        raise ValueError(f"model.embed_dim={embed_dim} is not divisible by model.heads={heads}; try {near}")
    if positions == "rotary" and embed_dim // heads % 2:
        raise ValueError(
            f"model.positions=rotary turns pairs of numbers, and model.embed_dim={embed_dim} with model.heads={heads} "
            f"gives heads of {embed_dim // heads}; use an even width a head"
        )


def stride_needs_sliding(window: str, stride: int | None) -> None:
    """Refuse a stride for windows that do not slide."""
    if stride is not None and window != "sliding":
        raise ValueError(f"objective.stride={stride} needs objective.window=sliding; set that, or stride=null")


def drawn_as_asked(sampling: str, shared: str, negatives: int, uniform_share: float) -> None:
    """Refuse negatives that cannot be drawn."""
    if sampling == "unseen" and shared == "batch":
        raise ValueError(
            "objective.shared=batch: users of a batch share no unseen items; "
            "use objective.sampling=uniform, or objective.shared=sequence"
        )
    if sampling == "mixed" and not 0 < mixed_uniform(negatives, uniform_share) < negatives:
        raise ValueError(
            f"objective.sampling=mixed: objective.uniform_share={uniform_share} of objective.negatives={negatives} "
            "leaves none of one kind; raise negatives"
        )


def mixed_uniform(negatives: int, uniform_share: float) -> int:
    """How many of mixed negatives are drawn from all items alike."""
    return round(negatives * uniform_share)


def all_items_drawn(objective: str, sampling: str) -> None:
    """Refuse negatives that cannot stand for the whole corpus."""
    if sampling == "unseen":
        raise ValueError(
            f"objective={objective} cannot take objective.sampling=unseen: negatives that leave seen items out do not "
            "stand for the corpus; use uniform, popularity, in_batch or mixed"
        )
