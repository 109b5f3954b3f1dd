"""File systems in a file or in memory, for drills that need a disk of their own."""

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path


class NotAllowedError(RuntimeError):
    """This user or this system cannot mount file systems."""


def call(*words: object) -> None:
    """Run a system command. Raises NotAllowedError with its last words where it fails."""
    try:
        subprocess.run([str(word) for word in words], check=True, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise NotAllowedError(f"there is no {words[0]}") from error
    except subprocess.CalledProcessError as error:
        raise NotAllowedError(f"{words[0]}: {error.stderr.strip()[-200:]}") from error


def make_ext4(image: Path, megabytes: int = 24) -> None:
    """An empty ext4 file system with a journal in a file."""
    with image.open("wb") as file:
        file.truncate(megabytes << 20)
    call("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0", image)


@contextlib.contextmanager
def mounted(*options: object) -> Iterator[Path]:
    """A place where `mount *options PLACE` has been called; unmounted at the end."""
    if os.geteuid() != 0:
        raise NotAllowedError("only root can mount")
    with tempfile.TemporaryDirectory() as place:
        call("mount", *options, place)
        try:
            yield Path(place)
        finally:
            subprocess.run(["umount", str(place)], check=True)


def copy_as_it_is(image: Path, target: Path) -> None:
    """What a power cut leaves: the image's bytes now; nothing is synchronised or unmounted."""
    shutil.copyfile(image, target)
