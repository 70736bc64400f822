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
