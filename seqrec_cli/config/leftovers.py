"""What a file says of an option that the command line has replaced: refused by name, with the words that mend it.

`experiment=ml-1m_sasrec` sets `objective.window`, and `objective=closed_form` beside it has no such key: to drop that
unasked would be another experiment than the one that is named. A `null` asks for nothing, and goes; Hydra's `~` cannot
take it out.
"""

import shlex

from omegaconf import DictConfig, OmegaConf, open_dict

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.migrations import RENAMED
from seqrec_cli.config.registry import GROUPS, config_class, names

FILES = ("experiment", "rung", "sweep", "debug")  # groups whose files have settings of other groups


def refuse_leftovers(cfg: DictConfig, overrides: list[str]) -> None:
    """Take out of the tree what a file sets to null for an option of which another was chosen, and which that lacks.

    Raises `SeqrecError` where the file sets it to anything else.
    """
    given = {key: value for key, _, value in (text.partition("=") for text in overrides)}
    files = [f"{group}={given[group]}" for group in FILES if given.get(group, "null") != "null"]
    added = {text.lstrip("+").partition("=")[0] for text in overrides}
    for group in GROUPS:
        name = OmegaConf.select(cfg, f"{group}.{GROUPS[group].key}") if files and group in given else None
        if name not in names(group):
            continue
        left = [key for key in cfg[group] if key not in config_class(group, name).model_fields]
        left = [key for key in left if f"{group}.{key}" not in RENAMED and f"{group}.{key}" not in added]
        with open_dict(cfg):
            for key in (key for key in left if cfg[group][key] is None):
                del cfg[group][key]
        if left := [f"{group}.{key}" for key in left if key in cfg[group]]:
            mend = " ".join(shlex.quote(f"~{key}") for key in left)
            raise SeqrecError(
                f"{', '.join(left)}: set by {' or '.join(files)}, and {group}={given[group]} has no such key; "
                f"add {mend} to leave it out"
            )
