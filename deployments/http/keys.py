"""Named API keys with rates and quotas; the file is read again when it changes.

Keys are compared by their SHA-256, all of them each time, so that neither the length of a key nor
its place in the file can be measured.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import math
import re
import time
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path

from acoustic.errors import ConfigError, OverloadedError, UnauthorizedError
from deployments.strict import parse_strict, read_yaml

logger = logging.getLogger(__name__)

DEFAULT_NAME = "default"
"""Name of the one key that stands in the environment."""

RELOAD_S = 2.0
"""Seconds between two looks at the file of keys."""

DAY_S = 86_400.0
MIN_KEY_CHARACTERS = 16
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
DIGEST = re.compile(r"[0-9a-f]{64}")

caller: ContextVar[str] = ContextVar("caller", default="")
"""Name of the key of the present request, "" where there is none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class KeyEntry:
    """One key in the file.

    Attributes:
        name: who has it, in logs and metrics: 1 to 64 letters, digits, dots, dashes, underscores.
        key: the secret, at least 16 characters; "" where its digest is given.
        key_sha256: hex SHA-256 of the secret in its place.
        requests_per_minute: most requests a minute, in each ingress replica; null for no limit.
        requests_per_day: most requests in 24 hours, in each ingress replica; null for no limit.
    """

    name: str
    key: str = ""
    key_sha256: str = ""
    requests_per_minute: float | None = None
    requests_per_day: float | None = None

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise ValueError(
                f"the name {self.name!r} must be 1 to 64 of letters, digits, dots, - and _"
            )
        if bool(self.key) == bool(self.key_sha256):
            raise ValueError(f"{self.name} needs one of key and key_sha256")
        if self.key and len(self.key) < MIN_KEY_CHARACTERS:
            raise ValueError(f"the key of {self.name} is shorter than {MIN_KEY_CHARACTERS}")
        if self.key_sha256 and not DIGEST.fullmatch(self.key_sha256):
            raise ValueError(f"key_sha256 of {self.name} is not a SHA-256 in lower-case hex")
        for limit in (self.requests_per_minute, self.requests_per_day):
            if limit is not None and limit <= 0:
                raise ValueError(f"a limit of {self.name} is {limit}, must be positive")

    @property
    def digest(self) -> bytes:
        """SHA-256 of the secret."""
        if self.key_sha256:
            return bytes.fromhex(self.key_sha256)
        return hashlib.sha256(self.key.encode()).digest()


@dataclass(frozen=True, kw_only=True, slots=True)
class KeysFile:
    """Content of a file of keys.

    Attributes:
        keys: at least one.
    """

    keys: tuple[KeyEntry, ...] = ()

    def __post_init__(self) -> None:
        names = [each.name for each in self.keys]
        if not names:
            raise ValueError("keys is empty, at least one is needed")
        if len(set(names)) < len(names):
            raise ValueError("two keys have the same name")


class Bucket:
    """A rate: tokens that come back steadily, up to what a whole period may use.

    Args:
        n: requests a period.
        period_s: length of the period, seconds.
        now_s: time of the start.
    """

    def __init__(self, n: float, period_s: float, now_s: float) -> None:
        self._n, self._per_s = max(1.0, n), n / period_s
        self._tokens, self._at_s = self._n, now_s

    def wait_s(self, now_s: float) -> float:
        """Seconds until a request is free, 0 if one is now."""
        self._tokens = min(self._n, self._tokens + (now_s - self._at_s) * self._per_s)
        self._at_s = now_s
        return max(0.0, (1 - self._tokens) / self._per_s)

    def take(self) -> None:
        """Use one, after `wait_s` was 0."""
        self._tokens -= 1


@dataclass(slots=True)
class _Limits:
    entry: KeyEntry
    buckets: list[Bucket] = field(default_factory=list)


class Keys:
    """The keys in force.

    Args:
        single: one secret, named "default"; "" for none.
        file: YAML file of keys, read again when it changes; None for none.
        clock: seconds, rising.

    Attributes:
        is_open: whether no key is configured, so that every request is accepted.

    Raises:
        ConfigError: the file cannot be used.
    """

    def __init__(
        self,
        single: str = "",
        file: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._single = single
        self._file, self._clock = file, clock
        self._known: dict[str, _Limits] = {}
        self._looked_s, self._stamp = -math.inf, (0, 0)
        self.is_open = not single and file is None
        if file is not None:
            self._stamp = self._stat(file)
        self._use(self._read())

    def name_of(self, authorization: bytes) -> str:
        """Name of the key in an Authorization header, counted against its limits.

        Args:
            authorization: value of the header as it came, b"" where there is none.

        Raises:
            UnauthorizedError: the key is missing or unknown.
            OverloadedError: the key's rate or quota is used up, with the seconds to wait.
        """
        self._reload()
        scheme, _, secret = authorization.partition(b" ")
        given = hashlib.sha256(secret).digest()
        found: _Limits | None = None
        for limits in self._known.values():  # all of them, whichever it is
            if hmac.compare_digest(given, limits.entry.digest):
                found = limits
        if found is None or scheme.lower() != b"bearer" or not secret:
            raise UnauthorizedError("API key missing or wrong: send Authorization: Bearer <key>")
        self._count(found)
        return found.entry.name

    def _count(self, limits: _Limits) -> None:
        now_s = self._clock()
        wait_s = max((bucket.wait_s(now_s) for bucket in limits.buckets), default=0.0)
        if wait_s > 0:
            raise OverloadedError(
                f"the key {limits.entry.name} has used up its requests: try again in "
                f"{math.ceil(wait_s):,} s",
                retry_after_s=wait_s,
            )
        for bucket in limits.buckets:
            bucket.take()

    def _reload(self) -> None:
        """Read the file if it has changed; one that cannot be used leaves the keys as they are."""
        now_s = self._clock()
        if self._file is None or now_s - self._looked_s < RELOAD_S:
            return
        self._looked_s = now_s
        stamp = self._stat(self._file)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._use(self._read())
        except ConfigError as error:
            logger.error("keys rejected, the old ones stay: %s", error.message)
        else:
            logger.info("keys read names=%s", sorted(self._known))

    def _read(self) -> tuple[KeyEntry, ...]:
        single = (KeyEntry(name=DEFAULT_NAME, key_sha256=_hex(self._single)),)
        found = single if self._single else ()
        if self._file is None:
            return found
        content = parse_strict(KeysFile, read_yaml(self._file), self._file.name)
        if found and any(each.name == DEFAULT_NAME for each in content.keys):
            raise ConfigError(f"{self._file.name}: the name {DEFAULT_NAME} is that of the variable")
        return (*found, *content.keys)

    def _use(self, entries: tuple[KeyEntry, ...]) -> None:
        """Take these keys; what one that stays has used is not forgotten."""
        now_s = self._clock()
        known = {}
        for entry in entries:
            before = self._known.get(entry.name)
            if before is not None and before.entry == entry:
                known[entry.name] = before
                continue
            limits = ((entry.requests_per_minute, 60.0), (entry.requests_per_day, DAY_S))
            buckets = [Bucket(n, period_s, now_s) for n, period_s in limits if n is not None]
            known[entry.name] = _Limits(entry, buckets)
        self._known = known

    @staticmethod
    def _stat(file: Path) -> tuple[int, int]:
        try:
            status = file.stat()  # of what a link leads to: secrets are mounted by links
        except OSError:
            return 0, 0
        return status.st_mtime_ns, status.st_ino


def _hex(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
