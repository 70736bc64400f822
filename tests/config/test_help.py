"""A verb's help: its groups with their options, its keys with type, default and meaning."""

from seqrec_cli.config.help import EXAMPLES, help_text
from seqrec_cli.config.verbs import VERBS


def flat(text: str) -> str:
    return " ".join(text.split())


def test_groups_options_and_keys_of_train() -> None:
    text = flat(help_text("train", ["dataset=ml-100k"], None, "fits"))
    assert "*ml-100k" in text
    assert "*sasrec" in text
    assert "bst" in text
    assert "trainer.lr=0.001 peak learning rate of AdamW (number > 0)" in text
    assert "evaluation.cutoffs=[5, 10, 20]" in text


def test_keys_follow_the_chosen_model() -> None:
    ours = help_text("train", ["dataset=ml-100k", "model=bst"], None, "fits")
    other = help_text("train", ["dataset=ml-100k", "model=popular"], None, "fits")
    assert "*bst" in ours
    assert "*click" in ours
    assert "model.dropout" in ours
    assert "model.dropout" not in other


def test_every_verb_has_help_and_examples() -> None:
    assert EXAMPLES.keys() == VERBS.keys()
    text = flat(help_text("export", [], None, "writes"))
    assert "ckpt=??? a run folder or a checkpoint file (text)" in text
    assert "Groups" not in text
    assert all(example.startswith("seqrec export") for example in EXAMPLES["export"])
