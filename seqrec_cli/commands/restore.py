"""A run's model and data, as they were: what every verb after `train` begins with."""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seqrec_cli.commands.console import say
from seqrec_cli.config.errors import SeqrecError, of_a_run
from seqrec_cli.config.migrations import migrated
from seqrec_cli.config.schema import HardwareConfig, TrainConfig
from seqrec_cli.config.validate import validate_plain
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.preprocess import prepare
from seqrec_cli.models.build import build_model
from seqrec_cli.models.contract import Recommender
from seqrec_cli.protocols.view.build import with_view
from seqrec_cli.saying import Say
from seqrec_cli.training.checkpoint import load_checkpoint
from seqrec_cli.training.precision import Precision, resolve_precision

AS_TRAINED = HardwareConfig(
    device=None, precision=None, threads=None, embedding=None, compile=None, log=None, kernels=None
)
# For exports, which are proved on a CPU in full precision, and pictures: the same anywhere.
ON_CPU = HardwareConfig(
    device="cpu", precision="fp32", threads=None, embedding=None, compile=False, log=None, kernels=None
)


def folder_of(ckpt: str | Path) -> Path:
    """The folder of a run that is named by it, or by a checkpoint file in it."""
    path = Path(ckpt).expanduser()
    return path if path.is_dir() else path.parent


@dataclass(frozen=True)
class Restored:
    """A trained model and the data it was trained on."""

    cfg: TrainConfig
    model: Recommender
    log: PackedLog
    precision: Precision
    epoch: int  # after which the weights were taken
    as_trained: dict[str, Any]  # the configuration, plain

    @property
    def version(self) -> str:
        """The weights among those of the run."""
        return f"epoch_{self.epoch}"

    @property
    def parts(self) -> "tuple[Restored, ...]":
        """The runs that it is made of: itself, or two that answer as one (`stages.py`)."""
        return (self,)

    @property
    def stages(self) -> dict[str, Any]:
        """What there is to say of two; nothing of one."""
        return {}


def restore(
    ckpt: str, archive: str | None, data_dir: str | None, *, hardware: HardwareConfig, tell: Say = say
) -> Restored:
    """Read a run folder or checkpoint file; what `hardware` leaves null is as the run was trained.

    Raises SeqrecError when the checkpoint is unreadable or the data are not the run's.
    """
    payload = load_checkpoint(Path(ckpt).expanduser())
    as_trained = migrated(payload["config"])
    plain = copy.deepcopy(as_trained)
    plain["hardware"] |= {"compile": False}  # one measurement does not pay for compiling
    plain["hardware"] |= {key: value for key, value in hardware.model_dump().items() if value is not None}
    plain["dataset"] |= {} if archive is None else {"archive": archive}
    plain |= {} if data_dir is None else {"data_dir": data_dir}
    cfg = validate_plain("train", plain)
    assert isinstance(cfg, TrainConfig)
    precision = resolve_precision(cfg.hardware)
    try:
        log = with_view(prepare(cfg.dataset, Path(cfg.data_dir), tell), cfg.protocol, tell)
    except SeqrecError as error:
        raise error if archive is None else of_a_run(error, "archive", archive) from error
    if not log.fits(payload["fingerprint"]):
        raise SeqrecError(
            f"ckpt={ckpt}: the data differ from the run's (fingerprint {log.fingerprint[:12]}, "
            f"trained on {payload['fingerprint'][:12]}); give the run's raw file as archive=PATH"
        )
    model = build_model(cfg.model, log.catalog, cfg.trainer.seed)
    model.load_state_dict(payload["model"])
    return Restored(cfg, model.to(precision.device), log, precision, payload["epoch"], as_trained)
