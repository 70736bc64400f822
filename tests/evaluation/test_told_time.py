"""What a model was told of the target's time stands in its rows' protocol."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from seqrec_cli.commands.measure import rules_of
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.context import with_time_context
from seqrec_cli.evaluation.compare import protocol, same_protocol


def test_rows_told_other_things_of_the_targets_time_are_refused(random_log):
    """Where two models both see it, too: BST's ages are not the hour, and the hour is not hour and weekday."""
    timed = dataclasses.replace(random_log, times_N=np.arange(len(random_log.items_N)) * 3600)
    logs = [with_time_context(timed, names) for names in ([], ["hour"], ["hour", "weekday"])]
    asked = {"max_length": 50, "monitor": "auc", "sees_target_time": True, "ranked_users": None}
    rows = [{"protocol": protocol(log, "test", **asked)} for log in logs]
    assert [row["protocol"]["time_context"] for row in rows] == [[], ["hour"], ["hour", "weekday"]]
    for first, second in ((0, 1), (0, 2), (1, 2)):
        with pytest.raises(SeqrecError, match="differ in time_context"):
            same_protocol([rows[first], rows[second]])


@pytest.mark.parametrize("sees", [True, False])
def test_a_runs_rules_say_whether_its_model_reads_the_targets_time(random_log, cpu, sees):
    settings = {"model": {"max_length": 7}, "trainer": {"monitor": "auc"}, "evaluation": {"ranked_users": 9}}
    cfg = SimpleNamespace(**{name: SimpleNamespace(**of) for name, of in settings.items()})
    rules = rules_of((cfg, SimpleNamespace(sees_target_time=sees), random_log, cpu), "val")
    told = [rules[name] for name in ("split", "max_length", "sees_target_time", "ranked_users", "chosen_by")]
    assert told == ["val", 7, sees, 9, "auc"]
