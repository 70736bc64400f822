"""The gated recurrence in numpy, one sequence, one step after another."""

import numpy as np


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def gru_by_hand(x_TG: np.ndarray, a_T: np.ndarray, U_GH: np.ndarray, replace: bool) -> np.ndarray:
    """Eq. 2-5 with the update gate of eq. 12-13 (or eq. 11), one sequence, one step after another: states [T, H]."""
    H = U_GH.shape[1]
    h, states = np.zeros(H), []
    for x, a in zip(x_TG, a_T, strict=True):
        reset, update = sigmoid(x[H : 2 * H] + U_GH[:H] @ h), sigmoid(x[2 * H :] + U_GH[H : 2 * H] @ h)
        new = np.tanh(x[:H] + reset * (U_GH[2 * H :] @ h))
        gate = a if replace else a * update
        h = (1 - gate) * h + gate * new
        states.append(h)
    return np.stack(states)
