"""The gated recurrence in numpy, one sequence, one step after another."""

import numpy as np

from seqrec_cli.kernels.gru_scan.reference import KEPT, REPLACED


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def gru_by_hand(x_TG: np.ndarray, a_T: np.ndarray, U_GH: np.ndarray, gate: int) -> np.ndarray:
    """Eq. 2-5 with the update gate of eq. 12-13 (or eq. 11), one sequence, one step after another: states [T, H].

    With KEPT as the authors' code has it, whose gate says what is kept: (1 - a) of it is.
    """
    H = U_GH.shape[1]
    h, states = np.zeros(H), []
    for x, a in zip(x_TG, a_T, strict=True):
        reset, update = sigmoid(x[H : 2 * H] + U_GH[:H] @ h), sigmoid(x[2 * H :] + U_GH[H : 2 * H] @ h)
        new = np.tanh(x[:H] + reset * (U_GH[2 * H :] @ h))
        if gate == KEPT:
            kept = (1 - a) * sigmoid(-(x[2 * H :] + U_GH[H : 2 * H] @ h))
        else:
            kept = 1 - (a if gate == REPLACED else a * update)
        h = kept * h + (1 - kept) * new
        states.append(h)
    return np.stack(states)
