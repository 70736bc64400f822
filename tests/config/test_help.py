"""A verb's help: its groups with their options, its keys with type, default and meaning."""

from seqrec_cli.config.help import help_text
from seqrec_cli.config.verbs import VERBS


def flat(text: str) -> str:
    return " ".join(text.split())


def test_groups_options_and_keys_of_train() -> None:
    text = flat(help_text(VERBS["train"], ["dataset=ml-100k"], None))
    assert "*ml-100k" in text
    assert "*sasrec" in text
    assert "bst" in text
    assert "trainer.lr=auto peak learning rate of AdamW (number > 0 or auto)" in text
    assert "evaluation.cutoffs=[5, 10, 20]" in text


def test_keys_follow_the_chosen_model() -> None:
    ours = help_text(VERBS["train"], ["dataset=ml-100k", "model=bst"], None)
    other = help_text(VERBS["train"], ["dataset=ml-100k", "model=popular"], None)
    assert "*bst" in ours
    assert "*click" in ours
    assert "model.dropout" in ours
    assert "model.dropout" not in other


def test_every_verb_has_help_and_examples() -> None:
    text = flat(help_text(VERBS["export"], [], None))
    assert "ckpt=??? a run folder or a checkpoint file (text)" in text
    assert "Groups" not in text
    for name, verb in VERBS.items():
        assert verb.name == name
        assert verb.examples
        assert all(example.startswith(f"seqrec {name}") for example in verb.examples)


def test_members_of_an_ensemble_have_their_own_models_keys() -> None:
    text = help_text(VERBS["train"], ["dataset=ml-100k", "model=ensemble"], None)
    assert "model.members.gru4rec.layers=1" in text
    assert "model.members.gru4rec.heads" not in text
