"""Settings of knowledge distillation: learning from the items that a trained model ranks first."""

from typing import Literal, Self

from pydantic import Field, model_validator

from seqrec_cli.config.objective import Capabilities, SoftmaxConfig


class Config(SoftmaxConfig):
    """The next item, and a teacher's distribution over it."""

    capabilities = Capabilities(
        families=frozenset({"encoder"}), rows="windows", causal=True, sparse_rows=False, weights=True
    )

    teacher: str = Field(description="the run folder, or checkpoint, of the model to learn from: any, of the same data")
    top: int = Field(ge=1, description="items that are kept of what the teacher says after each history")
    alpha: float = Field(gt=0, le=1, description="the teacher's share of the loss; the next event has the rest")
    temperature: float = Field(
        gt=0, description="the teacher's and the student's scores are divided by it where the two are compared"
    )
    teacher_scale: float = Field(
        gt=0,
        description="what the teacher's scores are multiplied by first: above 1 for one that is less sure than it may "
        "be (the mean of unlike models' scores), below 1 for one that is too sure",
    )
    soft_targets: Literal["scores", "ranks"] = Field(
        description="scores: the teacher's softmax, all but its first items in one remainder; ranks: its order alone, "
        "an item's weight falling with its rank"
    )
    rank_decay: float = Field(gt=0, description="for soft_targets=ranks: the weight at rank r is exp(-r / rank_decay)")
    next_item: Literal["keep", "leave_out"] = Field(
        description="leave_out: the teacher speaks of all items but the one that came, on which it was trained itself"
    )
    teacher_stride: int | None = Field(
        ge=1,
        description="events between the windows in which the teacher reads histories longer than its max_length; 1: "
        "after each event exactly the latest max_length; null: a quarter of max_length, so that it has read three "
        "quarters of them at least",
    )

    @model_validator(mode="after")
    def _reads_true_histories(self) -> Self:
        if self.scheduled_sampling != "none":
            raise ValueError(
                f"objective.scheduled_sampling={self.scheduled_sampling}: what the teacher says is of the true "
                "histories; use objective.scheduled_sampling=none, or objective=next_item"
            )
        return self

    @property
    def idle(self) -> dict[str, str]:
        without = ("temperature", "teacher_scale") if self.soft_targets == "ranks" else ("rank_decay",)
        return super().idle | dict.fromkeys(without, f"objective.soft_targets={self.soft_targets}")
