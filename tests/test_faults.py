"""A machine's faults in one line; all else keeps its traceback."""

import errno
from pathlib import Path

import pytest

from seqrec_cli.faults import in_words


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "x", "/a/b"), "/a/b: No space left on device ("),
        (OSError(errno.EFBIG, "x", "/a/b"), "/a/b: File too large ("),
        (OSError(errno.ENOSPC, "x"), "No space left on device: free some space and try again"),
        (OSError("1000 requested and 120 written"), "1000 requested and 120 written: free some space"),
        (PermissionError(errno.EACCES, "x", "/a/b"), "/a/b: Permission denied"),
        (NotADirectoryError(errno.ENOTDIR, "x", "/a/b"), "/a/b: Not a directory"),
        (FileNotFoundError(errno.ENOENT, "x", "/a/b"), "/a/b: No such file or directory"),
        (MemoryError("Unable to allocate 7 TiB"), "out of memory (Unable to allocate 7 TiB); lower what is large"),
        (RuntimeError("[enforce fail] can't allocate memory: you tried"), "out of memory ("),
    ],
)
def test_faults_are_told(error: BaseException, said: str) -> None:
    told = in_words(error)
    assert told is not None
    assert told.startswith(said)
    assert "\n" not in told


@pytest.mark.parametrize("error", [ValueError("x"), RuntimeError("shapes"), OSError("x"), FileNotFoundError("x")])
def test_bugs_are_not(error: BaseException) -> None:
    assert in_words(error) is None


def test_free_space_is_that_of_the_nearest_folder(tmp_path: Path) -> None:
    told = in_words(OSError(errno.ENOSPC, "x"), tmp_path / "not" / "there" / "file")
    assert told is not None
    assert f"free in {tmp_path}); free some, or write to another disk" in told
