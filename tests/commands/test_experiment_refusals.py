"""What makes no online experiment is refused in a line, by `seqrec serve` and by `seqrec compare`."""

import pytest

import seqrec_cli
from seqrec_cli.config.errors import SeqrecError

for package in ("fastapi", "httptools", "prometheus_client"):
    pytest.importorskip(package, reason="the development extras bring it")


@pytest.mark.parametrize(
    ("verb", "words", "says"),
    [
        ("serve", [], r"ckpt is missing: give it as ckpt=VALUE .*, or several as 'runs=\[A,B\]'"),
        ("serve", ["ckpt=a", "runs=[a,b]"], "ckpt and runs exclude each other"),
        ("serve", ["runs=[a]"], "runs=.*at least 2"),
        ("serve", ["ckpt=a", "split=.5"], "split: one run answers everybody"),
        ("serve", ["ckpt=a", "salt=x"], "salt deals users to several runs"),
        ("serve", ["runs=[a,b]", "salt=''"], "salt=: "),
        ("serve", ["runs=[a,b]", "split=1"], "split=1: expected number > 0 and < 1"),
        ("serve", ["runs=[a,b]", "split=[.5,.6]"], "split: the shares add up to 1.1; make it 1"),
        ("serve", ["runs=[a,b,c]", "split=.5"], "split: 2 shares for 3 runs; give one a run"),
        ("serve", ["runs=[/nothing/a,/nothing/b]", "port=0"], "/nothing/a"),
        ("compare", [], r"runs is missing: give it as 'runs=\[A,B\]', or the log"),
        ("compare", ["runs=[a,b]", "log=x"], "runs and log exclude each other"),
        ("compare", ["log=/nothing/x"], "log=/nothing/x: no such file or folder"),
        ("compare", ["log=x", "metrics=[mrr]"], r"metrics is of runs=\[A,B\], not of an online experiment's log"),
    ],
)
def test_what_makes_no_experiment_is_refused_in_a_line(verb: str, words: list[str], says: str) -> None:
    with pytest.raises(SeqrecError, match=says) as refused:
        seqrec_cli.run(verb, words)
    assert "\n" not in str(refused.value)
