"""What Hydra composes of `conf/` is kept between tests: each of some thousand compositions would take .1 s.

A composition has two parts. Which files, by the overrides of groups, and these merged: that follows from `conf/` and
the overrides of groups alone, and is kept; for all processes of the session, in a folder that pytest makes and an
environment variable names. The other overrides are parsed (each text once) and set in a copy, by Hydra, each time. A
search path with any other folder in it, and whatever fails, is composed anew.
"""

import copy
import functools
import hashlib
import io
import os
import pickle
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from hydra._internal import config_loader_impl as loader
from hydra._internal.defaults_list import DefaultsList, Overrides
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig

from seqrec_cli.config.compose import conf_folder

_make_list = loader.create_defaults_list
_merge = loader.ConfigLoaderImpl._compose_config_from_defaults_list
FOLDER = "SEQREC_TESTS_COMPOSITIONS"
_lists: dict[Any, DefaultsList] = {}
_keys: dict[int, Any] = {}  # of `_lists`, by the identity of a list's defaults
_merged: dict[Any, bytes] = {}  # by the same keys


class _Pickler(pickle.Pickler):
    """Overrides know who reads the folders of `conf/`, for sweeps alone."""

    def reducer_override(self, obj: Any) -> Any:
        return (type(None), ()) if isinstance(obj, ConfigLoader) else NotImplemented


def _shared(key: Any, part: str, make: Callable[[], Any]) -> bytes:
    """The pickle of what the first process of the session made that needed it."""
    folder = os.environ.get(FOLDER)
    path = Path(folder or "") / hashlib.sha256(repr((key, part)).encode()).hexdigest()
    if folder and path.is_file():
        return path.read_bytes()
    made = io.BytesIO()
    _Pickler(made).dump(make())
    if folder and path.parent.is_dir():
        own = path.with_suffix(f".{os.getpid()}")
        own.write_bytes(made.getvalue())
        own.replace(path)
    return made.getvalue()


def _defaults_list(repo: Any, config_name: str, overrides_list: list[Any], **how: bool) -> DefaultsList:
    sources = tuple((source.scheme(), source.path) for source in repo.get_sources())
    ours = {("file", str(conf_folder())), ("pkg", "hydra.conf"), ("structured", "")}
    if not ours.issuperset(sources):
        return _make_list(repo, config_name, overrides_list, **how)
    others = Overrides(repo, overrides_list).config_overrides
    of_groups = [override.input_line for override in overrides_list if not any(override is other for other in others)]
    key = (sources, config_name, *of_groups, *sorted(how.items()))
    if key not in _lists:
        made = _shared(key, "list", lambda: _make_list(repo, config_name, overrides_list, **how))
        _lists[key] = pickle.loads(made)
        _keys[id(_lists[key].defaults)] = key
    kept = _lists[key]
    return DefaultsList(kept.defaults, kept.defaults_tree, others, kept.overrides)


def _tree(self: Any, defaults: list[Any], repo: Any) -> DictConfig:
    if id(defaults) not in _keys:
        return _merge(self, defaults, repo)
    key = _keys[id(defaults)]
    if key not in _merged:
        _merged[key] = _shared(key, "tree", lambda: _merge(self, defaults, repo))
    tree = pickle.loads(_merged[key])
    assert isinstance(tree, DictConfig)
    return tree


@contextmanager
def kept() -> Iterator[None]:
    """Compositions are kept for the next that needs them."""
    parse_rule = OverridesParser.parse_rule
    parse = functools.cache(functools.partial(parse_rule, OverridesParser.create()))
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(loader, "create_defaults_list", _defaults_list))
        stack.enter_context(mock.patch.object(loader.ConfigLoaderImpl, "_compose_config_from_defaults_list", _tree))
        stack.enter_context(
            mock.patch.object(OverridesParser, "parse_rule", lambda self, *rule: copy.copy(parse(*rule)))
        )
        yield
