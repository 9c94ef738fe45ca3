"""One job at a time writes to an output: it holds a lease, and renews it while it runs.

The lease is a small file in the output. A job that finds one of another job watches it for longer
than the time between two renewals: a change means that the other job lives, whatever the clocks of
the two machines say. A job on this machine whose process has ended has lost its lease at once.
"""

from __future__ import annotations

import getpass
import json
import logging
import os
import signal
import socket
import threading
import time
import uuid
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from acoustic.errors import AcousticError, ConfigError
from deployments.batch.storage import StorageOptions, open_filesystem, write_atomically

logger = logging.getLogger(__name__)

LEASE_FILE = "_lease.json"
RENEW_S = 15.0
"""Seconds between two renewals."""

WATCH_S = 2 * RENEW_S + 5
"""Seconds for which a lease of another job is watched before it is taken over."""

SETTLE_S = 0.3
"""Seconds after which a job looks whether another one has written its lease at the same time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Holder:
    """Who holds a lease.

    Attributes:
        job: random id of the job.
        user: name of the user.
        host: name of the machine.
        boot: id of its boot, so that another machine of the same name is another one.
        pid: process id.
        born: start of the process, as the kernel counts it: another one may have its number later.
        space: name space of process ids: in another container the number is another process.
        since: start of the job, ISO 8601, UTC.
        n_renewals: number of renewals so far.
    """

    job: str
    user: str
    host: str
    boot: str
    pid: int
    born: str
    space: str
    since: str
    n_renewals: int = 0

    @property
    def is_here(self) -> bool:
        """Whether it is a process of this machine, since its last start."""
        own = (socket.gethostname(), _boot_id(), _space())
        return (self.host, self.boot, self.space) == own

    @property
    def is_gone(self) -> bool:
        """Whether it was a process of this machine that has ended."""
        return self.is_here and _born(self.pid) != self.born


class Lease:
    """Held while the context lasts.

    Args:
        out: output of the job.
        storage: settings for object stores.

    Raises:
        ConfigError: another job holds it; the message says whose and since when.
    """

    def __init__(self, out: str, storage: StorageOptions) -> None:
        self._out = out
        self._filesystem, root = open_filesystem(out, storage)
        self._path = f"{root}/{LEASE_FILE}"
        self._own = Holder(
            job=uuid.uuid4().hex, user=_user(), host=socket.gethostname(), boot=_boot_id(),
            pid=os.getpid(), born=_born(os.getpid()), space=_space(),
            since=datetime.now(UTC).isoformat(timespec="seconds"),
        )  # fmt: skip
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._renew, daemon=True, name="lease")

    def __enter__(self) -> Lease:
        self._acquire()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        holder = self._read()
        if holder is not None and holder.job == self._own.job:
            try:
                self._filesystem.delete_file(self._path)
            except OSError as failure:
                logger.warning("the lease of %s stays: %s", self._out, failure)

    def _acquire(self) -> None:
        other = self._read()
        if other is not None and other.is_here and not other.is_gone:
            raise _in_use(self._out, other)
        if other is not None and not other.is_gone:
            print(f"{self._out} has the lease of {_who(other)}: waiting {WATCH_S:.0f} s …")
            self._stop.wait(WATCH_S)
            now = self._read()
            if now is not None and now != other:
                raise _in_use(self._out, now)
        self._write(self._own)
        self._stop.wait(SETTLE_S)
        now = self._read()
        if now is None or now.job != self._own.job:
            raise _in_use(self._out, now)

    def _renew(self) -> None:
        """Renew it; a job that has lost its lease must not go on writing."""
        n = 0
        while not self._stop.wait(RENEW_S):
            n += 1
            try:
                holder = self._read()
                if holder is not None and holder.job != self._own.job:
                    logger.error("%s was taken over by %s: stopping", self._out, _who(holder))
                    # to the main thread, which may be blocked
                    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
                    return
                self._write(Holder(**{**asdict(self._own), "n_renewals": n}))
            except AcousticError as error:
                logger.warning("the lease of %s was not renewed: %s", self._out, error.message)

    def _write(self, holder: Holder) -> None:
        write_atomically(self._filesystem, self._path, json.dumps(asdict(holder)).encode())

    def _read(self) -> Holder | None:
        try:
            with self._filesystem.open_input_stream(self._path) as stream:
                content: dict[str, Any] = json.loads(stream.read())
            return Holder(**content)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError):
            return None  # none, or one that nobody can hold


def _in_use(out: str, holder: Holder | None) -> ConfigError:
    who = "another job" if holder is None else _who(holder)
    return ConfigError(f"{out} is being written by {who}: wait for it, or choose another --out")


def _who(holder: Holder) -> str:
    return f"{holder.user} on {holder.host} (process {holder.pid}), since {holder.since}"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return str(os.getuid())


def _born(pid: int) -> str:
    """Start of a process in the kernel's ticks, "" where there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (OSError, ValueError):
        return ""
    return fields[19]  # the 22nd field of the line


def _space() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return str(round(time.time() - time.monotonic()))
