"""Faults of a machine, which are nobody's bug: a full disk, a missing right, too little memory. Each in one line."""

import errno
import os
import re
import shutil
from pathlib import Path

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
# Faults of a disk, of its rights, or of what lies where something else is expected.
STORAGE = FULL | {
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EEXIST,
    errno.ENOTEMPTY,
    errno.ENAMETOOLONG,
    errno.ELOOP,
    errno.EIO,
    errno.ENOLCK,
    errno.EMFILE,
    errno.ESTALE,
}
_OF_MEMORY = ("not enough memory", "can't allocate memory", "out of memory", "array is too big", "Storage size")


def in_words(error: BaseException, path: Path | str | None = None) -> str | None:
    """What a person reads of such a fault; None of any other. `path` is what was to be written, if that is known."""
    if isinstance(error, OSError):
        known = error.errno in STORAGE or _vanished(error) or _cut_short(error)
        return _of_storage(error, path) if known else None
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and any(w in str(error) for w in _OF_MEMORY)):
        said = " ".join(str(error).split())[:200]
        return (
            f"out of memory{f' ({said})' if said else ''}; lower what is large: trainer.batch_size, "
            "evaluation.batch_size, model.max_length, model.embed_dim (seqrec plan tells what a run needs)"
        )
    return None


def _vanished(error: OSError) -> bool:
    """A file or folder that was there is gone; without a name it is some call's, not a person's."""
    return error.errno == errno.ENOENT and error.filename is not None


def _cut_short(error: OSError) -> bool:
    """NumPy's words, without a number, where a disk took a part of an array."""
    return error.errno is None and bool(re.search(r"\d+ requested and \d+ written", str(error)))


def _of_storage(error: OSError, path: Path | str | None) -> str:
    named = path or error.filename
    reason = os.strerror(error.errno) if error.errno else error.strerror or str(error)  # pyarrow's is a paragraph
    if error.errno not in FULL and not _cut_short(error):
        return f"{named or 'disk'}: {reason}"
    if named is None:
        return f"{reason}: free some space and try again"
    folder = nearest_folder(Path(named))
    return f"{named}: {reason} ({free_space(folder)} free in {folder}); free some, or write to another disk"


def nearest_folder(path: Path) -> Path:
    """The folder of a path, or the nearest above it that is there."""
    return next((above for above in path.absolute().parents if above.is_dir()), Path.cwd())


def free_space(folder: Path) -> str:
    """What is free on a folder's disk."""
    try:
        free = shutil.disk_usage(folder).free
    except OSError:
        return "unknown space"
    for unit, scale in (("GB", 2**30), ("MB", 2**20), ("kB", 2**10)):
        if free >= scale:
            return f"{free / scale:,.1f} {unit}"
    return f"{free} B"
