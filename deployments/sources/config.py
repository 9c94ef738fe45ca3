"""Which places the service reads from."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
NAME = re.compile(rf"(?=.{{1,253}}$)({LABEL}\.)+(?![0-9]){LABEL}")
"""Host names; never addresses, whose last label is a number in every notation."""

BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")
OBJECT_STORES = ("s3", "gs")


@dataclass(frozen=True, kw_only=True, slots=True)
class SourcesConfig:
    """Places from which the service reads audio by reference; none by default.

    Attributes:
        hosts: names of hosts for https://, such as "music.example.org".
        private_hosts: names of hosts for https:// whose addresses need not be public.
        buckets: buckets of object stores, such as "s3://music" or "gs://music".
        roots: folders for file://, absolute.
        timeout_s: longest time to read one file, seconds.
        max_file_bytes: largest file of which parts are read, bytes; what is read of it may be as
            long as a body.
    """

    hosts: tuple[str, ...] = ()
    private_hosts: tuple[str, ...] = ()
    buckets: tuple[str, ...] = ()
    roots: tuple[str, ...] = ()
    timeout_s: float = 30.0
    max_file_bytes: int = 1 << 30

    def __post_init__(self) -> None:
        for host in (*self.hosts, *self.private_hosts):
            if not NAME.fullmatch(host):
                raise ValueError(f"{host!r} is not a host name in lower case")
        for bucket in self.buckets:
            scheme, separator, name = bucket.partition("://")
            if scheme not in OBJECT_STORES or not separator or not BUCKET.fullmatch(name):
                raise ValueError(f"{bucket!r} is not a bucket such as s3://music or gs://music")
        for root in self.roots:
            if not os.path.isabs(root) or os.path.realpath(root) == "/":
                raise ValueError(f"{root!r} is not an absolute folder below /")
        if self.timeout_s <= 0 or self.max_file_bytes < 1:
            raise ValueError("timeout_s and max_file_bytes must be positive")

    @property
    def is_on(self) -> bool:
        """Whether any place is allowed."""
        return bool(self.hosts or self.private_hosts or self.buckets or self.roots)
