"""What an encoder knows its items by where ids are not all: the vectors of their texts, and their attributes."""

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.model import EncoderConfig
from seqrec_cli.data.catalog import ITEM_VECTORS, Catalog
from seqrec_cli.data.numbers import item_features, vector_features
from seqrec_cli.models.layers.embedding import FeatureEmbedding
from seqrec_cli.models.layers.text_items import TextItems


def text_items(cfg: EncoderConfig, catalog: Catalog) -> TextItems:
    """The table whose rows are made of the vectors of items' texts; data without any are refused."""
    if catalog.item_vectors is None:
        raise SeqrecError(
            f"model.items={cfg.items}: the data have no vectors of items' texts; set dataset.item_text (tfidf, or a "
            "model's name or folder) or dataset.item_vectors=FILE, or use model.items=ids"
        )
    texts_VW = vector_features(catalog.item_vectors)
    ids = cfg.items == "both"
    return TextItems(texts_VW, cfg.embed_dim, ids=ids, experts=cfg.experts, drop=cfg.text_dropout)


def item_attributes(cfg: EncoderConfig, catalog: Catalog) -> FeatureEmbedding:
    """What is known of each item beside its own vector; data without any are refused."""
    # What makes the items' own vectors is no attribute beside them.
    numbers = {
        name: each for name, each in item_features(catalog).items() if cfg.items == "ids" or name != ITEM_VECTORS
    }
    if not catalog.item_attributes and not numbers:
        raise SeqrecError(
            f"model.attributes={cfg.attributes}: the dataset has no item attributes; use model.attributes=none"
        )
    return FeatureEmbedding(
        catalog.num_items + 1,
        catalog.item_attributes,
        catalog.item_values,
        dim=cfg.embed_dim,
        own=False,
        numbers=numbers,
        widths=cfg.widths,
    )
