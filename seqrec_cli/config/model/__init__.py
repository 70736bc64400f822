"""What models have in common in a configuration; each one's own settings are a file of this folder.

Nothing here imports torch: the code of `sasrec.py` is `models/sasrec.py`.
"""

from typing import Annotated, ClassVar, Literal, NamedTuple, Self

from pydantic import BeforeValidator, Field, SerializeAsAny, model_validator

from seqrec_cli.config.settings import Option

Positions = Literal["absolute", "reversed", "rotary", "relative", "none"]
IN_ATTENTION = frozenset({"rotary", "relative"})  # positions that act on a query and a key, not on the input
OF_USER_VECTOR = ("user_input", "user_output", "user_dropout", "user_swap")
Width = Annotated[int, Field(ge=1)]


class Capabilities(NamedTuple):
    """What a model can do. Every model says all of it: a setting that needs more is refused."""

    family: Literal["encoder", "ranker", "generator", "closed_form"]
    causal: bool  # the state at a position sees no later event
    attends: bool  # has queries and keys, which some kinds of `positions` act on
    recurrent: bool  # its states depend on where a row begins: no row may exceed max_length
    sparse_rows: bool  # looks rows of its tables up and never reads a whole one in training
    inner_product: bool  # scores are inner products of a history's vector and the items'
    all_positions: bool  # a ranker that scores candidates at any position of a history in one forward pass
    packs: bool = False  # runs on histories laid end to end (`models/layers/packed_rows.py`), which few do


# Of what is counted, in tables of its own kind.
COUNTED = Capabilities(
    "closed_form",
    causal=True,
    attends=False,
    recurrent=False,
    sparse_rows=False,
    inner_product=False,
    all_positions=False,
)


class ModelConfig(Option):
    """What every model has."""

    group: ClassVar[str] = "model"
    capabilities: ClassVar[Capabilities]

    name: str = Field(description="the model")
    max_length: int = Field(ge=1, description="history events the model reads, the latest kept")

    @property
    def reads_context(self) -> bool:
        """Whether it reads the context of requests, or of events."""
        return False

    @property
    def history_negatives(self) -> int:
        """Unseen items that training draws beside every event of a history, for a loss of the model's own."""
        return 0

    @property
    def history_negatives_by_popularity(self) -> bool:
        """Whether they are drawn as often as items occur in training, instead of from all alike."""
        return False

    @property
    def reads_times(self) -> str:
        """What of it reads the times of events, and what to use without them; empty if it reads none."""
        return ""

    @property
    def loss_of_its_own(self) -> str:
        """What it adds to the objective's loss, as the end of a sentence; empty if nothing."""
        return ""

    @property
    def looks_ahead(self) -> str:
        """What to use instead where the state at a position sees later events of its row; empty where it sees none."""
        return "" if self.capabilities.causal else "objective=cloze"

    @property
    def counts_from_end(self) -> bool:
        """Whether the state at a position, though it sees no later event, depends on how many there are in its row."""
        return False

    @property
    def not_compiled(self) -> str:
        """What of it `hardware.compile` cannot take; empty if it can."""
        return ""

    @property
    def batch_statistics(self) -> dict[str, str]:
        """The settings by which training reads statistics of the whole batch, and what to set instead of each."""
        return {}


AnyModel = Annotated[SerializeAsAny[ModelConfig], BeforeValidator(ModelConfig.chosen)]


class EncoderConfig(ModelConfig):
    """What every next-item encoder has in front of its own layers or behind them (`models/encoder.py`)."""

    embed_dim: int = Field(ge=1, description="width of item vectors and hidden states")
    items: Literal["ids", "text", "both"] = Field(
        description="what an item's vector is: one of its id, made of its text's vector (dataset.item_text or "
        "item_vectors) by UniSRec's adaptor, or the sum of both; an item that training never saw has that of its text"
    )
    experts: int = Field(ge=1, le=64, description="items=text or both: whitening experts that the adaptor mixes")
    text_dropout: float = Field(ge=0, lt=1, description="items=text or both: dropout of the text vectors' numbers")
    dropout: float = Field(ge=0, lt=1, description="dropout of embeddings and layer outputs (CPU: steps of 1/256)")
    event_dropout: float = Field(
        ge=0,
        lt=1,
        description="share of training events that lose their item and its attributes, whole vectors at once",
    )
    positions: Positions = Field(
        description="positions counted from the window's start, or from its end; inside attention, by rotating queries "
        "and keys, or by a learned bias for each distance; or not at all"
    )
    attributes: Literal["none", "add", "concat", "tied"] = Field(
        description="the vectors of the items' attributes (genres, price, pre-trained vectors) in the input: left out, "
        "added to the item's own, or joined with it and projected to its width; tied: added to it wherever the item is "
        "read or scored, and alone where training never saw the item"
    )
    user_attributes: Literal["none", "add"] = Field(
        description="the vectors of the user's attributes: left out, or added to the input at every event"
    )
    context: Literal["none", "history", "request"] = Field(
        description="the vectors of context: left out; that of each event of the history added to it; or at each "
        "event also that of the event that followed, which is the request's own at the last"
    )
    widths: dict[str, Width] | None = Field(
        description="widths of features that are not embed_dim wide, by name: with attributes=concat, of the items' "
        "attributes; null: none"
    )
    user_dim: int = Field(ge=0, description="width of a vector of the user's own; 0: none")
    user_input: Literal["add", "concat", "none"] = Field(
        description="how that vector enters the input: projected and added to every event, joined with every event's "
        "vector, so that the layers are user_dim wider (SSE-PT), or not at all"
    )
    user_output: Literal["none", "film", "gate"] = Field(
        description="what it does to the states that are scored: nothing, a scale and a shift of each number (FiLM), "
        "or a scale between 0 and 2; an unknown user's stay as they are"
    )
    user_dropout: float = Field(
        ge=0, lt=1, description="share of training rows whose user is taken for an unknown one, who has a zero vector"
    )
    user_swap: float = Field(
        ge=0, lt=1, description="share of training rows that read a random user's vector (Stochastic Shared Embeddings)"
    )
    item_swap: float = Field(
        ge=0, lt=1, description="share of training events that are read as a random item; their targets stay"
    )
    steps_ahead: int = Field(
        ge=1,
        le=100,
        description="events ahead that objective=multi_step learns, the second and later ones by a head each; answers "
        "are the first's",
    )
    tied: bool = Field(description="events are scored against the input's item table, not a table of their own")
    item_bias: bool = Field(description="a learned number an item, added to its scores")
    temperature: float | None = Field(
        gt=0, description="scores are cosines divided by it (L2-normalised states and items); null: inner products"
    )
    init_std: float | None = Field(
        gt=0, description="standard deviation of the initial embeddings; null: Xavier's, for tables and layers"
    )
    layer_std: float | None = Field(
        gt=0,
        description="deviation of the layers' initial weights (BERT: 0.02); null: 1 / sqrt(inputs), or Xavier's",
    )

    @property
    def reads_context(self) -> bool:
        return self.context != "none"

    @property
    def counts_from_end(self) -> bool:
        return self.positions == "reversed"

    @property
    def idle(self) -> dict[str, str]:
        found = super().idle
        if not self.user_dim:
            found |= dict.fromkeys(OF_USER_VECTOR, "model.user_dim=0")
        if self.items == "ids":
            found |= dict.fromkeys(("experts", "text_dropout"), "model.items=ids")
        return found

    @property
    def layer_dim(self) -> int:
        """Width of the layers: of the item vectors, and of the user's where it is joined with them."""
        return self.embed_dim + (self.user_dim if self.user_input == "concat" else 0)

    @model_validator(mode="after")
    def _features_fit(self) -> Self:
        if self.attributes == "tied" and not self.tied:
            raise ValueError("model.attributes=tied scores events by the input's table; set model.tied=true")
        if self.items != "ids" and not self.tied:
            raise ValueError(f"model.items={self.items} scores items by their texts; set model.tied=true")
        if self.items != "ids" and self.attributes == "tied":
            raise ValueError(
                f"model.items={self.items} has the items' vectors of their texts, attributes among them; use "
                "model.attributes=none, add or concat, or model.items=ids with tied"
            )
        if self.context == "request" and self.looks_ahead:
            raise ValueError(
                f"model.context=request: model={self.name} guesses an event between others, in no request; use history"
            )
        return self

    @model_validator(mode="after")
    def _user_is_read(self) -> Self:
        if self.user_dim and self.user_input == "none" and self.user_output == "none":
            raise ValueError(
                f"model.user_dim={self.user_dim}: nothing reads the user's vector with model.user_input=none and "
                "model.user_output=none; set one of them, or model.user_dim=0"
            )
        return self

    @model_validator(mode="after")
    def _positions_fit(self) -> Self:
        if self.positions in IN_ATTENTION and not self.capabilities.attends:
            raise ValueError(
                f"model.positions={self.positions} acts on the queries and keys of attention, and model={self.name} "
                "has none; use absolute, reversed or none"
            )
        return self


class TransformerConfig(EncoderConfig):
    """An encoder of blocks with attention and a feed-forward layer."""

    blocks: int = Field(ge=1, le=1000, description="transformer blocks")
    heads: int = Field(ge=1, description="attention heads; divides embed_dim")
    ffn_dim: int = Field(ge=1, description="inner width of the feed-forward layers")
    attention_dropout: float = Field(ge=0, lt=1, description="dropout of attention weights")

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Self:
        heads_divide(self.embed_dim, self.heads, self.positions, joined=self.layer_dim - self.embed_dim)
        return self


class CausalTransformerConfig(TransformerConfig):
    """One whose attention may have another form (`models/layers/attention_forms.py`)."""

    attention_form: Literal["softmax", "linear", "local"] = Field(
        description="softmax over all earlier events; linear: kernel features, whose cost grows with the length alone; "
        "local: softmax over the latest attention_window events"
    )
    attention_window: int = Field(ge=1, description="for local: events that a position sees, itself included")

    @property
    def idle(self) -> dict[str, str]:
        found, form = super().idle, f"model.attention_form={self.attention_form}"
        if self.attention_form != "local":
            found["attention_window"] = form
        if self.attention_form == "linear":
            found["attention_dropout"] = form
        return found

    @model_validator(mode="after")
    def _form_has_positions(self) -> Self:
        if self.attention_form == "linear" and self.positions in IN_ATTENTION:
            raise ValueError(
                f"model.attention_form=linear has no logits that model.positions={self.positions} could act on; use "
                "absolute, reversed or none"
            )
        return self


def heads_divide(embed_dim: int, heads: int, positions: str = "none", *, joined: int = 0) -> None:
    """Refuse a width that does not split evenly over the attention heads, or heads that cannot be rotated; `joined` is
    that of a user's vector beside it."""
    width, words = embed_dim + joined, f"model.embed_dim={embed_dim}{f' and model.user_dim={joined}' if joined else ''}"
    if width % heads:
        lower = width // heads * heads
        near = " or ".join(str(better - joined) for better in (lower, lower + heads) if better > joined)
        raise ValueError(
            f"{words} {'are together' if joined else 'is'} not divisible by model.heads={heads}; try "
            f"{'model.embed_dim=' if joined else ''}{near}"
        )
    if positions == "rotary" and width // heads % 2:
        raise ValueError(
            f"model.positions=rotary turns pairs of numbers, and {words} with model.heads={heads} "
            f"gives heads of {width // heads}; use an even width a head"
        )
