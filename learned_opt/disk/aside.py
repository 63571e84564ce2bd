"""Files moved out of the way of new ones: whole, or not at all."""

import contextlib
import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from learned_opt.disk.files import sync_folder


@contextlib.contextmanager
def moved(path: Path, names: Sequence[str]) -> Iterator[Path | None]:
    """Moves files and folders to a new folder, whose path it gives, and back if the body fails.

    Args:
      path: of the directory that they are in.
      names: of them, in this order; None is given where there are none.

    Raises:
      OSError: one cannot be moved; all are where they were.
    """
    if not names:
        yield None
        return
    aside = _new_folder(path)
    done = []
    try:
        for name in names:
            os.rename(path / name, aside / name)
            done.append(name)
        yield aside
    except BaseException:
        for name in reversed(done):
            os.rename(aside / name, path / name)
        with contextlib.suppress(OSError):
            aside.rmdir()
        raise
    sync_folder(aside)
    sync_folder(path)


def _new_folder(path: Path) -> Path:
    """A folder on the file system of `path`:
    beside it, or beside what it links to, or else within it.
    """
    real = path.resolve()
    try:
        probe, target = path / ".old-run-probe", _free_name(real.parent, f"{real.name}.old-")
        target.mkdir()
        try:
            probe.mkdir()
            # A mount point may be of the same device, and yet refuse.
            os.rename(probe, target / probe.name)
            (target / probe.name).rmdir()
            return target
        except OSError:
            target.rmdir()
            raise
        finally:
            with contextlib.suppress(OSError):
                probe.rmdir()
    except OSError:
        target = _free_name(path, "old-")
        target.mkdir()
        return target


def _free_name(folder: Path, prefix: str) -> Path:
    names = (folder / f"{prefix}{number}" for number in itertools.count(1))
    return next(name for name in names if not os.path.lexists(name))
