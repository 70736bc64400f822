"""Members of a publisher's zip archive."""

import zipfile
import zlib
from pathlib import Path

from seqrec_cli.config.errors import SeqrecError


def read_members(path: Path, *names: str) -> list[bytes]:
    """The bytes of members by file name, in whatever folder of the archive they lie.

    Raises SeqrecError on a torn archive or a missing member.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = {member.rpartition("/")[2]: member for member in archive.namelist()}
            for name in names:
                if name not in members:
                    raise SeqrecError(f"{path.name} holds no {name}; is it the archive of another dataset?")
            return [archive.read(members[name]) for name in names]
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError) as error:
        raise SeqrecError(
            f"{path} is torn or no zip archive ({error}); delete it and run `seqrec download`, "
            "or set dataset.archive to a whole copy"
        ) from None
