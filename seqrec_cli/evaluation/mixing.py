"""Well-mixed 64-bit numbers, for draws by a counter and for hashes."""

import numpy as np

STEP = np.uint64(0x9E3779B97F4A7C15)


def mixed(x: np.ndarray) -> np.ndarray:
    """SplitMix64's output function (Steele, Lea and Flood 2014): every bit depends on every bit of the input."""
    with np.errstate(over="ignore"):
        x = np.asarray(x, np.uint64) + STEP
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))
