"""Stage 1 in a process of its own: a file that breaks a decoder costs that process and itself.

Decoders are large C libraries that read what strangers send. Here they run in a child without the
service's environment, which cannot open a socket, start a program or write a file, whose memory is
limited, and which is ended when a file takes too long. The file travels through shared memory, the
features come back as bytes that hold no code.

    parent                          child (`sandbox_worker`)
    bytes ─▶ memory that both map ─▶ Preprocessor.process ─▶ arrays and JSON ─▶ TrackFeatures
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from acoustic.digest import content_digest
from acoustic.errors import AcousticError, AudioDecodeError
from acoustic.preprocess.preprocessor import PreprocessConfig
from acoustic.preprocess.ranged_file import FileParts, PartsError
from acoustic.preprocess.sandbox_child import Child, ChildEndedError, SandboxConfig
from acoustic.request import Effort
from acoustic.types import TrackFeatures

logger = logging.getLogger(__name__)

REFUSED_S = 3600.0
MAX_REFUSED = 10_000
"""Seconds for which a content that ended a child is refused, and most contents remembered."""


class Sandbox:
    """Some children, each with one file at a time; thread-safe.

    A child takes seconds to start. The first starts here, further ones beside the files that wait
    for it, which go to whichever child is free first.

    Args:
        config: settings of stage 1, without a cache.
        limits: limits of the children.
        environment: the variables that they have beside those of the memory.
    """

    def __init__(
        self,
        config: PreprocessConfig,
        limits: SandboxConfig,
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._config, self._limits, self._environment = config, limits, environment
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._idle = [Child(config, limits, environment)]
        self._n_children = 1  # those that start, too
        self._is_starting = self._is_closed = False
        self._failure: Exception | None = None
        self._refused: OrderedDict[str, float] = OrderedDict()
        self.n_deaths = 0

    def process(
        self, data: bytes, effort: Effort, round_number: int = 0, parts: FileParts | None = None
    ) -> TrackFeatures:
        """See `Preprocessor.process`; the digest of the content is left to the caller.

        Args:
            data: content of a file, or some parts of it, one behind the other.
            effort: how many windows are evaluated.
            round_number: which round of `auto`, from 0.
            parts: where the parts lie in the file.

        Raises:
            InputError: as there; AudioDecodeError also where the file ended its process.
            PartsError: as `Preprocessor.process_parts`.
        """
        self.check(data)
        child = self._taken()
        try:
            features = child.process(data, effort, round_number, parts)
        except ChildEndedError as error:
            self._end(child)
            self._refuse(data)
            self.n_deaths += 1
            logger.warning("a decoder process ended: %s", error)
            raise AudioDecodeError(
                "the audio cannot be decoded: it ended the decoder, or took too long"
            ) from error
        except (AcousticError, PartsError):
            self._give_back(child)
            raise
        except BaseException:
            self._end(child)  # its next answer would be about this file
            raise
        self._give_back(child)
        return features

    def check(self, data: bytes) -> None:
        """Raise if this content ended a child within the last hour.

        Raises:
            AudioDecodeError: it did.
        """
        if not self._refused:
            return
        at_s = self._refused.get(content_digest(data))
        if at_s is not None and time.monotonic() - at_s < REFUSED_S:
            raise AudioDecodeError("the audio cannot be decoded: it ended the decoder before")

    def close(self) -> None:
        """End the children."""
        with self._changed:
            self._is_closed = True
            while self._is_starting:
                self._changed.wait()
            for child in self._idle:
                child.end()
            self._idle.clear()

    def pids(self) -> Sequence[int]:
        """Process ids of the idle children."""
        with self._lock:
            return [child.pid for child in self._idle]

    def _taken(self) -> Child:
        """The first child that is free; a further one starts meanwhile, where there may be more.

        Raises:
            RuntimeError: all children have ended, and another one does not start.
        """
        with self._changed:
            while True:
                while self._idle:
                    child = self._idle.pop()
                    if child.is_alive:
                        return child
                    child.end()
                    self._n_children -= 1
                if not self._n_children and self._failure is not None:
                    failure, self._failure = self._failure, None  # the next file tries again
                    raise RuntimeError("a decoder process does not start") from failure
                self._start_another()
                self._changed.wait()

    def _start_another(self) -> None:
        """Start one more child in the background, one at a time; call it with the lock."""
        if self._is_starting or self._is_closed or self._n_children >= self._limits.processes:
            return
        self._is_starting = True
        self._n_children += 1
        threading.Thread(target=self._start, name="decoder-start", daemon=True).start()

    def _start(self) -> None:
        child, failure = None, None
        try:
            child = Child(self._config, self._limits, self._environment)
        except Exception as error:  # whoever waits raises it
            failure = error
            logger.exception("a decoder process does not start")
        with self._changed:
            self._is_starting = False
            self._failure = failure
            if child is None:
                self._n_children -= 1
            else:
                self._idle.append(child)
            self._changed.notify_all()

    def _give_back(self, child: Child) -> None:
        with self._changed:
            self._idle.append(child)
            self._changed.notify()

    def _end(self, child: Child) -> None:
        """End a child, and start another in its place."""
        child.end()
        with self._changed:
            self._n_children -= 1
            self._start_another()
            self._changed.notify()

    def _refuse(self, data: bytes) -> None:
        with self._lock:
            self._refused[content_digest(data)] = time.monotonic()
            while len(self._refused) > MAX_REFUSED:
                self._refused.popitem(last=False)
