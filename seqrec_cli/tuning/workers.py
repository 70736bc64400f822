"""Several workers on one study: processes of this machine, watched and replaced."""

from seqrec_cli.config.tuning import TuneConfig
from seqrec_cli.saying import Say
from seqrec_cli.tuning.folder import StudyFolder


def work_together(folder: StudyFolder, cfg: TuneConfig, say: Say) -> bool:
    raise NotImplementedError
