"""A newer checkpoint takes the place of the one that answers, and no request is lost on the way."""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.serving.service import Answering, Beside, Loaded
from seqrec_cli.serving.telemetry import Journal, Meters
from seqrec_cli.training.checkpoint import checkpoint_file

Signature = tuple[tuple[int, int, int], ...]  # of each file


class Reloading:
    """A thread that reads the checkpoints anew when it is asked to, and when a file has changed.

    What is under way is answered by the model that it was asked of; a checkpoint that cannot be read changes nothing.
    """

    def __init__(
        self,
        ckpt: str,
        load: Callable[[], Loaded],
        answering: Answering | Beside,
        *,
        journal: Journal,
        meters: Meters,
        stages: Sequence[str] = (),  # checkpoints of models that answer together with it
    ) -> None:
        self._ckpt, self._load, self._answering = Path(ckpt).expanduser(), load, answering
        self._watched = [Path(each).expanduser() for each in (ckpt, *stages)]
        self._journal, self._meters = journal, meters
        self._wanted = threading.Event()
        self._ended = False
        self._seen = self._signature()
        self._thread = threading.Thread(target=lambda: None)

    def start(self, watch_s: float | None) -> None:
        """Look at the file every so many seconds; None: never."""
        self._thread = threading.Thread(target=self._work, args=(watch_s,), name="reload", daemon=True)
        self._thread.start()

    def ask(self) -> None:
        """Read it anew now, changed or not."""
        self._wanted.set()

    def close(self) -> None:
        """Look no more."""
        self._ended = True
        self._wanted.set()

    def _work(self, watch_s: float | None) -> None:
        while True:
            asked = self._wanted.wait(watch_s)
            self._wanted.clear()
            if self._ended:
                return
            now = self._signature()
            if asked or now not in (None, self._seen):
                self._seen = now
                self._reload()

    def _reload(self) -> None:
        try:
            self._answering.loaded = loaded = self._load()
        except Exception as error:  # whatever is wrong with it, the old one goes on
            why = str(error) if isinstance(error, SeqrecError) else repr(error)
            self._journal.write("not reloaded", ckpt=str(self._ckpt), reason=why)
            self._meters.reloaded("failed")
            return
        self._journal.write("reloaded", ckpt=str(self._ckpt), model_version=loaded.facts["model_version"])
        self._meters.reloaded("done")

    def _signature(self) -> Signature | None:
        try:
            found = [checkpoint_file(ckpt).stat() for ckpt in self._watched]
        except (SeqrecError, OSError):
            return None
        return tuple((each.st_mtime_ns, each.st_size, each.st_ino) for each in found)
