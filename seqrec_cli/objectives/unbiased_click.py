"""Click prediction from lists that another system ordered: the binary cross-entropy of labels that undo position bias.

Unbiased pointwise learning (Saito et al., WSDM 2020, arXiv 1909.03601, eq. 8) with the chances of places for those of
items, or, with an outcome model, its doubly robust form (Oosterhuis, TOIS 2023, arXiv 2203.17118). Labels are corrected
in the rows (`evaluation/logged/labels.py`) before the first step; the loss is that of `click`, linear in them.
"""

from seqrec_cli.objectives import click


class Objective(click.Objective):
    """As `click`; the difference lies in the labels."""
