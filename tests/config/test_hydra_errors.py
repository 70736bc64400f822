"""Every refusal is one line that names the nearest right word."""

import pytest

from seqrec_cli.config.compose import compose
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.validate import validate

REFUSALS = [
    ("train", ["trainer.lrr=1"], "trainer.lrr: no such key or group; did you mean 'trainer.lr'?"),
    (
        "audit",
        ["dataset.users=60"],
        "dataset.users: no dataset is chosen; add dataset=NAME, or ckpt=RUN, whose dataset it is",
    ),
    ("audit", ["dataset=synthetic", "dataset.usres=5"], "did you mean 'dataset.users'?"),
    ("train", ["lr=1"], "lr: no such key or group; did you mean 'trainer.lr'?"),
    (
        "train",
        ["seed=1"],
        "seed: no such key or group; did you mean 'protocol.seed' or 'trainer.seed'?",
    ),
    ("train", ["model=popular", "model.blocks=1"], "model.blocks: no such key or group (model has: "),
    ("train", ["model={a:1}"], "model takes the name of an option: a file of conf/model/, or with --config-dir DIR"),
    ("tune", ["space={a:1}"], "space takes the name of an option: a file of conf/space/, or with --config-dir DIR"),
    (
        "train",
        ["experiment=best"],
        "in conf/experiment/, or with --config-dir DIR a file of your own, DIR/experiment/best",
    ),
    ("train", ["modle=bst"], "did you mean 'model'?"),
    ("train", ["model=sasrek"], "model=sasrek: no such option; did you mean 'sasrec'? (have: "),
    ("train", ["model=bst", "model.dorpout=0"], "did you mean 'model.dropout'?"),
    ("train", ["~trainer.lrr"], "did you mean 'trainer.lr'?"),
    ("train", ["trainer.lr.x=1"], "trainer.lr"),
    ("train", ["trainer=1"], "the option of a group must be a string"),
    ("train", ["trainer.lr=1,2"], "trainer.lr=1,2: several values are a sweep, add -m"),
    (
        "train",
        ["model=popular", "model.dropout=0"],
        "model.dropout: no such key or group (model has: max_length, name)",
    ),
    ("train", ["+trainer.lr=1"], "trainer.lr is there already: write it without +"),
    ("train", ["bst"], "'bst': overrides have the form KEY=VALUE"),
    ("train", ["dataset.name=a=b"], "\"dataset.name='a=b'\""),
    ("evaluate", [], "ckpt is missing: give it as ckpt=VALUE (a run folder or a checkpoint file)"),
    ("evaluate", ["ckpt=x", "dataset.predict=users"], "the run has the dataset that it was trained with"),
    ("train", ["+trainer.lrr=1"], "trainer.lrr: no such key; did you mean 'trainer.lr'?"),
    ("train", ["+new.key=1"], "new: no such key"),
    ("train", ["model.embed_dim=abc"], "model.embed_dim=abc: expected integer >= 1"),
    ("train", ["model.heads=abc"], "model.heads=abc: expected integer >= 1"),
    ("train", ["trainer.batch_size=abc"], "trainer.batch_size=abc: expected integer >= 1"),
    ("train", ["trainer.max_epochs=[1]"], "trainer.max_epochs=[1]: expected integer >= 1"),
    ("train", ["trainer.lr=abc"], "trainer.lr=abc: expected number > 0 or auto (peak learning rate"),
    ("train", ["trainer.lr=-1"], "trainer.lr=-1: expected number > 0"),
    ("train", ["trainer.max_epochs=2.5"], "trainer.max_epochs=2.5: expected integer >= 1"),
    ("train", ["trainer.seed=true"], "trainer.seed=true: expected integer >= 0"),
    ("train", ["trainer.schedule=cosin"], "expected one of cosine, constant; did you mean 'cosine'?"),
    ("train", ["hardware.precision=bf61"], "did you mean 'bf16'?"),
    ("train", ["hardware.device=gpu"], "hardware.device=gpu: expected"),
    ("train", ["evaluation.cutoffs=[10,0]"], "evaluation.cutoffs=[10, 0]: expected list of integer >= 1"),
    ("train", ["trainer.betas=[0.9,1.5]"], "trainer.betas must lie in [0, 1)"),
    ("train", ["trainer.betas=0.9"], "trainer.betas=0.9: expected list of 2 x number"),
    ("train", ["evaluation=5"], "evaluation=5: expected keys, not one value"),
    ("train", ["trainer.lr=-1", "trainer.seed=x", "data_dir=1"], "(and 2 more)"),
    ("train", ["run_dir=7"], "\"run_dir='7'\""),
    ("train", ["data_dir=${nowhere}"], "data_dir: Interpolation key 'nowhere' not found"),
    ("train", ["trainer.monitor=ndcg@7"], "trainer.monitor: ndcg@7 is not measured: evaluation.cutoffs has 5, 10, 20"),
    (
        "train",
        ["trainer.batch_tokens=100", "trainer.bucket_by_length=false"],
        "trainer.batch_tokens fills batches with rows of like length: set trainer.bucket_by_length=true, or",
    ),
    ("train", ["model=sasrec", "objective=closed_form"], "objective=closed_form cannot train model=sasrec"),
    (
        "train",
        ["hardware.embedding=sparse"],
        "hardware.embedding=sparse: objective=next_item needs the whole item table",
    ),
    ("train", ["hardware.embedding=sparse", "model=popular"], "model=popular has no tables that are only looked up"),
    ("train", ["hardware.embedding=rows"], "hardware.embedding=rows: expected one of dense, sparse"),
    ("train", ["hardware.embedding=null"], "hardware.embedding may be null in evaluate"),
    ("train", ["model=popular", "trainer.ema=0.9"], "trainer.ema: model=popular is fitted in closed form, in no steps"),
    ("train", ["model=ease", "trainer.micro_batch_tokens=64"], "trainer.micro_batch_tokens: model=ease is fitted in"),
    (
        "train",
        ["model=markov", "hardware.compile=true"],
        "hardware.compile=true: model=markov is fitted in closed form",
    ),
    ("train", ["model=sasrec", "dataset.time_context=[hour]"], "dataset.time_context: model=sasrec reads no context"),
    ("train", ["model=din", "objective.redraw=true"], "protocol=leave_last draws them anew every epoch"),
    ("train", ["model=gru4rec", "model.positions=rotary"], "model.positions=rotary acts on the queries and keys"),
    (
        "train",
        ["model=bst", "objective.stride=5"],
        "objective.stride: no such key or group (objective has: name, negatives",
    ),
    ("train", ["model.mlp=[4]"], "model.mlp: no such key or group"),
    (
        "train",
        ["model=ensemble", "model.members.sasrec.heads=3", "model.members.sasrec.embed_dim=64"],
        "model.members.sasrec: model.embed_dim=64 is not",
    ),
    ("train", ["model=ensemble", "model.members.sasrec.lr=3"], "did you mean 'trainer.lr'?"),
    ("train", ["model=ensemble", "+model.members.x={name: nothing}"], "model.members.x.name=nothing: no such name"),
    ("train", ["model=ensemble", "~model.members.sasrec.name"], "model.members.sasrec.name is missing"),
    ("train", ["model.name=torch"], "model.name=torch: no such name"),
    ("train", ["~model.name"], "model.name is missing"),
]


@pytest.mark.parametrize(("verb", "overrides", "says"), REFUSALS, ids=[" ".join(r[1]) or r[0] for r in REFUSALS])
def test_refusal(verb: str, overrides: list[str], says: str) -> None:
    dataset = ["dataset=ml-100k"] if verb == "train" else []
    with pytest.raises(SeqrecError) as refusal:
        validate(verb, compose(verb, dataset + overrides))
    assert says in str(refusal.value)
    assert "\n" not in str(refusal.value)
