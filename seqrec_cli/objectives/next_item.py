"""Next item at every position, softmax over the whole corpus.

The SASRec+ objective (Klenitskiy & Vasilev 2023, arXiv 2309.07602), here without the B x L x V logits.
"""

from torch import Tensor

from seqrec_cli.config.objective.next_item import Config
from seqrec_cli.data.batch import Batch
from seqrec_cli.models.contract import Recommender
from seqrec_cli.objectives import contract
from seqrec_cli.objectives.losses import corpus_cross_entropy


class Objective(contract.Objective):
    """Mean cross-entropy over all targets of the batch."""

    def __init__(self, cfg: Config) -> None:
        self.window, self.stride = cfg.window, cfg.stride
        self.chunk_mb, self.smoothing = cfg.chunk_mb, cfg.smoothing

    def loss(self, model: Recommender, batch: Batch) -> Tensor:
        encoder, queries_ND, targets_N, _ = contract.at_targets(model, batch)
        table_VD, bias_V = encoder.item_table(), encoder.item_bias()
        return corpus_cross_entropy(queries_ND, table_VD, targets_N, self.chunk_mb, bias_V, self.smoothing)
