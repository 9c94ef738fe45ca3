"""Finds the audio files of a folder: the same ones for the library, batch jobs and training.

- Folders that are links are followed, each folder once, so a link to a parent adds nothing.
- A file that a link names is listed once; where the file itself is found as well, under its own
  name. Broken links are listed, because reading them is an error that somebody should see.
- What is not audio is left out and counted: other suffixes, the `._` files of macOS, and folders
  that programs keep (such as `.git` and `__MACOSX`).

Names are those of the file system: a name that is not UTF-8 has lone surrogates (PEP 383), for
which `printable` gives an escaped form.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field

SUFFIXES = (
    ".wav", ".wave", ".bwf", ".rf64", ".w64", ".flac", ".mp3", ".mp2", ".mpga", ".mpa", ".ogg",
    ".oga", ".opus", ".aif", ".aiff", ".aifc", ".au", ".snd", ".caf",
    ".m4a", ".m4b", ".m4r", ".mp4", ".3gp", ".3g2", ".aac", ".adts", ".wma", ".asf", ".webm",
    ".weba", ".mka",
)  # fmt: skip
"""Extensions treated as audio when listing a folder; the bytes decide the real format."""

PROGRAM_FOLDERS = frozenset(
    ("__MACOSX", ".git", ".svn", ".hg", "@eaDir", "#recycle", "$RECYCLE.BIN", ".Trashes",
     ".Spotlight-V100", "System Volume Information")
)  # fmt: skip
"""Folders of file managers and version control, which hold no music."""

APPLE_DOUBLE = "._"
"""Start of the names of files in which macOS keeps attributes of the file of the same name."""

FileId = tuple[int, int]


@dataclass(slots=True)
class FoundFiles:
    """Files of a folder.

    Attributes:
        paths: paths of the files, sorted.
        n_skipped: number of files that are not audio by their names.
    """

    paths: list[str] = field(default_factory=list)
    n_skipped: int = 0


def walk_files(folder: str | os.PathLike[str], *, only_audio: bool = True) -> FoundFiles:
    """List the files below a folder.

    Args:
        folder: folder to list; it may be a link.
        only_audio: whether files without a suffix of audio are left out.

    Raises:
        OSError: the folder itself cannot be listed. A folder inside that may not be read is
            skipped.
    """
    walk = _Walk(only_audio)
    walk.add_folder(os.fspath(folder), is_root=True)
    walk.follow_links()
    walk.found.paths.sort()
    return walk.found


def is_audio_name(name: str) -> bool:
    """Whether a file's name ends like audio and is not one that macOS adds."""
    base = name.rpartition("/")[2]
    return base.lower().endswith(SUFFIXES) and not base.startswith(APPLE_DOUBLE)


def printable(name: str) -> str:
    r"""A file name as valid text: bytes that are not UTF-8 become escapes.

    >>> printable("caf\udce9.mp3")
    'caf\\xe9.mp3'
    """
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


class _Walk:
    def __init__(self, only_audio: bool) -> None:
        self.found = FoundFiles()
        self._only_audio = only_audio
        self._folders: set[FileId] = set()
        self._files: set[FileId] = set()
        self._links: list[str] = []

    def add_folder(self, folder: str, is_root: bool = False) -> None:
        """Add what is in a folder and below; links wait until all that is not a link is known."""
        waiting = [folder]
        while waiting:
            folder = waiting.pop()
            try:
                status = os.stat(folder)
                known = (status.st_dev, status.st_ino)
                if known in self._folders:
                    continue
                self._folders.add(known)
                waiting += self._add_entries(folder, status.st_dev)
            except OSError:
                if is_root and not self._folders:
                    raise
            is_root = False

    def follow_links(self) -> None:
        """Add what links lead to, in the order of their paths, unless it is there already."""
        while self._links:
            links, self._links = sorted(self._links), []
            for link in links:
                try:
                    status = os.stat(link)
                except OSError:  # broken, or a link to itself
                    self._add_file(link)
                    continue
                known = (status.st_dev, status.st_ino)
                if stat.S_ISDIR(status.st_mode):
                    self.add_folder(link)
                elif not stat.S_ISREG(status.st_mode) or known in self._files:
                    continue  # a pipe or a device would be read for ever
                elif self._add_file(link):
                    self._files.add(known)

    def _add_entries(self, folder: str, device: int) -> Iterator[str]:
        """Add the files of a folder; yields the folders in it."""
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_symlink():
                    self._links.append(entry.path)
                elif entry.is_dir(follow_symlinks=False):
                    if entry.name not in PROGRAM_FOLDERS:
                        yield entry.path
                elif entry.is_file(follow_symlinks=False) and self._add_file(entry.path):
                    self._files.add((device, entry.inode()))

    def _add_file(self, path: str) -> bool:
        if self._only_audio and not is_audio_name(path):
            self.found.n_skipped += 1
            return False
        self.found.paths.append(path)
        return True
