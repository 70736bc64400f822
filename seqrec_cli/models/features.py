"""The features of items, users and requests by name: which there are, which a model reads, how wide each is."""

from collections.abc import Collection

from seqrec_cli.config.errors import SeqrecError, nearest
from seqrec_cli.config.model import EncoderConfig, ModelConfig
from seqrec_cli.config.model.auto import Config as AutoConfig
from seqrec_cli.config.model.graph import Config as GraphConfig
from seqrec_cli.config.rankers import RankerConfig
from seqrec_cli.data.catalog import ITEM_VECTORS, Catalog

ITEM_ID, USER_ID = "item_id", "user_id"


def features(catalog: Catalog) -> dict[str, list[str]]:
    """What the data know of items, users and events, by whose it is."""
    vectors = [] if catalog.item_vectors is None else [ITEM_VECTORS]
    return {
        "items": [*(a.name for a in catalog.item_attributes), *catalog.item_numbers, *vectors],
        "users": [*(a.name for a in catalog.user_attributes), *catalog.user_numbers],
        "context": list(catalog.context_names),
    }


def check_widths(cfg: EncoderConfig | RankerConfig, catalog: Catalog, unequal: Collection[str]) -> None:
    """Refuse a width of what the data do not have, or of what the model adds up: only `unequal` kinds may have one."""
    own = {"items": [ITEM_ID], "users": [USER_ID]} if isinstance(cfg, RankerConfig) else {}
    kinds = {kind: [*own.get(kind, []), *names] for kind, names in features(catalog).items()}
    known = [name for names in kinds.values() for name in names]
    for name, width in (cfg.widths or {}).items():
        if name not in known:
            raise SeqrecError(
                f"model.widths: no feature '{name}'{nearest(name, known)} (have: {', '.join(known) or 'none'})"
            )
        added = [kind for kind, names in kinds.items() if name in names and kind not in unequal]
        if added and width != cfg.embed_dim:
            raise SeqrecError(
                f"model.widths: {name}={width}: model={cfg.name} adds up its vectors of {added[0]}, which all "
                f"have model.embed_dim={cfg.embed_dim}{_remedy(cfg, added[0])}"
            )
        if name == USER_ID and isinstance(cfg, RankerConfig) and not cfg.user_id:
            raise SeqrecError("model.widths: user_id has no vector; set model.user_id=true")


def _remedy(cfg: EncoderConfig | RankerConfig, kind: str) -> str:
    joins = isinstance(cfg, EncoderConfig) and kind == "items" and cfg.attributes != "concat"
    return "; model.attributes=concat joins them" if joins else ""


def unread(cfg: ModelConfig, catalog: Catalog) -> list[str]:
    """A word on each kind of feature that the data have and this model does not read."""
    have, reads = features(catalog), _reads(cfg)
    if isinstance(cfg, EncoderConfig) and cfg.items != "ids":  # read as the items themselves
        have["items"] = [name for name in have["items"] if name != ITEM_VECTORS]
    words = {"items": "item attributes", "users": "user attributes", "context": "context"}
    return [
        f"{words[kind]} {', '.join(names)}: not read by model={cfg.name}{'; ' + remedy if remedy else ''}"
        for kind, names in have.items()
        if names and (remedy := reads[kind]) is not None
    ]


def _reads(cfg: ModelConfig) -> dict[str, str | None]:
    """By kind: None where the model reads it, else what to set, or nothing to be done."""
    if isinstance(cfg, RankerConfig | AutoConfig):  # the models that the latter tries say it of themselves
        return dict.fromkeys(("items", "users", "context"))
    if isinstance(cfg, GraphConfig):
        items = None if cfg.attribute_weight else "set model.attribute_weight=1"
        return {"items": items, "users": "", "context": ""}
    if isinstance(cfg, EncoderConfig):
        return {
            "items": "set model.attributes=add" if cfg.attributes == "none" else None,
            "users": "set model.user_attributes=add" if cfg.user_attributes == "none" else None,
            "context": "set model.context=history" if cfg.context == "none" else None,
        }
    each = [_reads(member) for member in getattr(cfg, "members", {}).values()]
    nothing = dict.fromkeys(("items", "users", "context"), "")
    return {kind: None if any(reads[kind] is None for reads in each) else word for kind, word in nothing.items()}
