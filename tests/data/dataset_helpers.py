"""Dataset records from the shipped YAML, and small archives in the publishers' form."""

import zipfile
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from seqrec_cli.config.dataset import DatasetConfig
from seqrec_cli.config.protocol import ProtocolConfig
from seqrec_cli.config.registry import config_class
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.preprocess import prepare
from seqrec_cli.protocols.view.build import with_view

CONF = Path(__file__).resolve().parents[2] / "conf"

RATINGS_1M = ("1::10::5::300", "1::20::3::100", "1::30::4::100", "1::40::1::200", "2::20::2::5", "2::10::4::6")
MOVIES_1M = (
    "10::Toy Story (1995)::Animation|Comedy",
    "20::Mis\u00e9rables, Les (1958)::Drama",
    "30::2001: A Space Odyssey (1968)::Drama|Sci-Fi|Thriller",
    "40::Untitled::Comedy",
    "50::Nobody Saw It (2000)::Drama",
)
USERS_1M = ("1::F::1::10::48067", "2::M::56::16::70072")


def dataset(option: str, **values: Any) -> DatasetConfig:
    """The record of conf/dataset/<option>.yaml with some values replaced; times of csv logs are small, in seconds."""
    values = {"time_unit": "s"} | values if option == "csv" else values
    plain = _composed("dataset", option, values)
    return config_class("dataset", plain["source"]).from_plain(plain)  # type: ignore[return-value]


def protocol(option: str, **values: Any) -> ProtocolConfig:
    """The record of conf/protocol/<option>.yaml with some values replaced."""
    return config_class("protocol", option).from_plain(_composed("protocol", option, values))  # type: ignore[return-value]


def _composed(group: str, option: str, values: dict[str, Any]) -> dict[str, Any]:
    with initialize_config_dir(str(CONF), version_base=None):
        tree = compose("preprocess", [f"{group}={option}"])
    for key, value in values.items():  # before others are interpolated from it
        OmegaConf.update(tree, f"{group}.{key}", _plain(value), merge=False)
    plain: dict[str, Any] = OmegaConf.to_container(tree[group], resolve=True)  # type: ignore[assignment]
    return plain


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


def build(cfg: DatasetConfig, data_dir: Path, asked: str | None = None, **values: Any) -> PackedLog:
    """Prepare, and ask by a protocol if one is named, saying nothing."""
    log = prepare(cfg, data_dir, lambda line: None)
    return log if asked is None else with_view(log, protocol(asked, **values), lambda line: None)


def lines(*rows: str) -> bytes:
    """Rows as a latin-1 file."""
    return "".join(f"{row}\n" for row in rows).encode("latin-1")


def archive(path: Path, members: dict[str, bytes]) -> Path:
    """A zip archive."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return path


def ml_1m(
    folder: Path,
    ratings: tuple[str, ...] = RATINGS_1M,
    movies: tuple[str, ...] = MOVIES_1M,
    users: tuple[str, ...] = USERS_1M,
) -> Path:
    """A small archive in the form of MovieLens-1M."""
    tables = {"ratings": ratings, "movies": movies, "users": users}
    return archive(folder / "ml-1m.zip", {f"ml-1m/{name}.dat": lines(*rows) for name, rows in tables.items()})
