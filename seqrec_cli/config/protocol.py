"""What every protocol has: what counts as seen, the candidates, the order of ties, and the seed of what is drawn."""

from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field, SerializeAsAny

from seqrec_cli.config.settings import Option

Candidates = Annotated[str, Field(pattern=r"^(full|(uniform|popularity):[1-9]\d*)$")]


class ProtocolConfig(Option):
    """What is asked: a split, the targets, the candidates, what is seen, and the order of equal times."""

    group: ClassVar[str] = "protocol"
    needs_times: ClassVar[bool] = False
    needs_impressions: ClassVar[bool] = False  # logged requests: what was clicked and what was shown
    fixes_training_rows: ClassVar[bool] = False  # it has labelled rows for training too
    splits_users: ClassVar[bool] = False  # most users are not evaluated, by design
    one_negative: ClassVar[bool] = False  # its own number of negatives, not of the user's choice

    name: str = Field(description="the protocol (a file of protocols)")
    seen: Literal["remove", "keep"] = Field(
        description="items of the history: remove them from the candidates, and leave out targets that repeat one; or "
        "keep them, rank every item and draw negatives from them too"
    )
    candidates: Candidates = Field(
        description="what the target is ranked among: full, the whole corpus; or, for comparison only, so many sampled "
        "items, as uniform:100 or popularity:100",
    )
    ties: Literal["file", "reversed", "shuffled"] = Field(
        description="a user's events of equal time: as the file has them, the other way round, or in any order"
    )
    click_negatives: int = Field(ge=1, description="fixed negatives beside each request's targets, for AUC")
    seed: int = Field(ge=0, description="seed of the fixed negatives and of whatever else the protocol draws")


AnyProtocol = Annotated[SerializeAsAny[ProtocolConfig], BeforeValidator(ProtocolConfig.chosen)]
