"""Completion on Tab: a script for each shell, and the candidates it asks `seqrec --complete WORD...` for."""

import itertools
import os
from pathlib import Path
from typing import Any

from seqrec_cli.config.verbs import VERBS

FLAGS = ("--help", "--multirun", "--cfg", "--config-dir", "--config-name", "--info", "--package", "--resolve")
FILE_KEYS = ("ckpt", "retriever", "ranker", "run_dir", "resume", "out", "archive", "data_dir", "dataset.archive")
AFTER_FLAG = {"--cfg": ("job", "hydra", "all"), "-c": ("job", "hydra", "all")}

_BASH = r"""
_seqrec() {
    local line="${COMP_LINE:0:COMP_POINT}" breaks="" cut="" candidate
    local -a words
    read -r -a words <<< "$line"
    [[ "$line" == *[[:space:]] ]] && words+=("")
    local current="${words[${#words[@]}-1]}"
    # readline may end a word at = and :, and then replaces only what follows
    [[ "$COMP_WORDBREAKS" == *=* ]] && breaks+="="
    [[ "$COMP_WORDBREAKS" == *:* ]] && breaks+=":"
    [[ -n "$breaks" && "$current" == *["$breaks"]* ]] && cut="${current%"${current##*["$breaks"]}"}"
    COMPREPLY=()
    while IFS= read -r candidate; do
        [[ -n "$candidate" ]] && COMPREPLY+=("${candidate#"$cut"}")
    done < <(command "${words[0]/#\~/$HOME}" --complete "${words[@]:1}" 2>/dev/null)
    [[ "${COMPREPLY[0]}" == *[=./] ]] && compopt -o nospace 2>/dev/null
    return 0
}
complete -F _seqrec seqrec
"""

_ZSH = r"""
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
_seqrec() {
    local -a found
    found=("${(@f)$(command ${~words[1]} --complete "${(@)words[2,CURRENT-1]}" "$PREFIX" 2>/dev/null)}")
    local -a open=(${(M)found:#*[=./]}) closed=(${found:#*[=./]})
    (( $#open )) && compadd -Q -S '' -- $open
    (( $#closed )) && compadd -Q -- $closed
}
compdef _seqrec seqrec
"""

_FISH = r"""
function __seqrec_complete
    set -l words (commandline -opc)
    $words[1] --complete $words[2..-1] (commandline -ct | string collect --allow-empty) 2>/dev/null
end
complete -c seqrec -f -a '(__seqrec_complete)'
"""

_SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


def script(shell: str) -> str:
    """What `eval` needs in that shell's start-up file."""
    return _SCRIPTS[shell].strip()


def candidates(words: list[str]) -> list[str]:
    """What the last of `words` (those after `seqrec`, up to the cursor) can become, sorted."""
    current = words[-1] if words else ""
    if len(words) <= 1:
        return sorted(w for w in (*VERBS, "completion", "--help", "--version") if w.startswith(current))
    verb, before = words[0], words[-2]
    if verb == "completion" and len(words) == 2:
        return sorted(shell for shell in _SCRIPTS if shell.startswith(current))
    if verb not in VERBS:
        return []
    if before in AFTER_FLAG:
        return [word for word in AFTER_FLAG[before] if word.startswith(current)]
    if before in ("--config-dir", "-cd"):
        return [path for path in _files(current) if path.endswith("/")]
    if current.startswith("-"):
        return sorted(flag for flag in FLAGS if flag.startswith(current))
    return _overrides(verb, words[1:-1], current)


def _overrides(verb: str, earlier: list[str], current: str) -> list[str]:
    bare = current.lstrip("+~")
    sign = current[: len(current) - len(bare)]
    key, equals, value = bare.partition("=")
    if equals and key in FILE_KEYS:
        return [f"{sign}{key}={path}" for path in _files(value)]
    tree = _tree(verb, earlier)
    if tree is None:
        return []
    groups, fields = tree
    if equals:
        done, comma, last = value.rpartition(",")  # a sweep: complete its last value
        return [f"{sign}{key}={done}{comma}{v}" for v in groups.get(key, fields.get(key, [])) if v.startswith(last)]
    found = {f"{group}=" for group in groups}
    depth = bare.count(".") + 1
    for name in fields:
        parts = name.split(".")
        found.add(f"{name}=" if len(parts) <= depth else ".".join(parts[:depth]) + ".")
    return sorted(sign + word for word in found if word.startswith(bare))


def _tree(verb: str, earlier: list[str]) -> tuple[dict[str, list[str]], dict[str, list[str]]] | None:
    """The verb's groups with their options and its keys with the values they can name, given earlier overrides."""
    from omegaconf import OmegaConf

    from seqrec_cli.config.compose import choices, compose_raw, groups, launcher_folder, launchers
    from seqrec_cli.config.describe import keys_of

    folder = _config_dir(earlier)
    said = [word for word in earlier if "=" in word and not word.startswith(("-", "hydra")) and "," not in word]
    launcher = [word.partition("=")[2] for word in earlier if word.startswith("hydra/launcher=")]
    preset = launcher_folder() / f"{launcher[-1] if launcher else ''}.yaml"
    of_launcher = [str(key) for key in OmegaConf.load(preset)] if preset.is_file() else []
    for overrides in (said, []):
        try:
            cfg = compose_raw(verb, overrides, folder)
            plain: Any = OmegaConf.to_container(cfg)
            available = groups(folder)
            keys = {key.name: key.choices() for key in keys_of(VERBS[verb].settings(), plain)}
            keys |= {f"hydra.launcher.{key}": [] for key in of_launcher if not key.startswith("_")}
            return {group: available.get(group, []) for group in choices(cfg)} | {"hydra/launcher": launchers()}, keys
        except Exception:  # an earlier override is wrong: Tab is no place to say so
            continue
    return None


def _config_dir(earlier: list[str]) -> str | None:
    for flag, value in itertools.pairwise(earlier):
        if flag in ("--config-dir", "-cd") and Path(value).is_dir():
            return value
    return None


def _files(prefix: str) -> list[str]:
    """Paths that begin so; folders end in a slash. Hidden ones only when asked for."""
    head, name = os.path.split(prefix)
    folder = Path(os.path.expanduser(head) or ".")
    if not folder.is_dir():
        return []
    found = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith(name) and (name.startswith(".") or not path.name.startswith(".")):
            found.append(os.path.join(head, path.name) + ("/" if path.is_dir() else ""))
    return found
