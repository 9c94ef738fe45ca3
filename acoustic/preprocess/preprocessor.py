"""Stage 1 assembled: bytes → plan → decode only those seconds → log-mel windows → numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol

import numpy as np
import numpy.typing as npt

from acoustic.checkpoint_folder import CheckpointFolder
from acoustic.content_cache import CacheConfig
from acoustic.digest import config_digest, content_digest
from acoustic.errors import (
    AudioTooShortError,
    InvalidOptionError,
    SilentAudioError,
)
from acoustic.geometry import MelConfig
from acoustic.levels import quantise
from acoustic.preprocess.cache import FeatureCache
from acoustic.preprocess.decode import RangedReader, decoder_errors, open_audio, read_complete
from acoustic.preprocess.descriptors import describe
from acoustic.preprocess.downmix import Decoded, read_mono
from acoustic.preprocess.enhance import EnhanceConfig, enhance
from acoustic.preprocess.guard import DecodeLimits
from acoustic.preprocess.mel import MelSpectrogram, model_values, power_to_db, tile_frames
from acoustic.preprocess.quality import measure_quality
from acoustic.preprocess.ranged_file import FileParts, RangedFile, RangesUnavailableError
from acoustic.preprocess.reader import AudioReader
from acoustic.preprocess.segments import WINDOWS_BY_EFFORT, plan_rounds
from acoustic.preprocess.sound_search import find_sound
from acoustic.preprocess.waveform import Waveform, resample
from acoustic.profiling import StageTimer
from acoustic.request import Effort
from acoustic.types import Segment, TrackFacts, TrackFeatures

Samples = npt.NDArray[np.float32]


class Elsewhere(Protocol):
    """Another process that does the work of stage 1."""

    def process(
        self, data: bytes, effort: Effort, round_number: int = 0, parts: FileParts | None = None
    ) -> TrackFeatures:
        """See `Preprocessor.process`, and with parts of a file `Preprocessor.process_parts`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PreprocessConfig:
    """Settings of stage 1.

    Attributes:
        mel: geometry, which the checkpoint fixes.
        limits: what decoding one request may cost.
        min_duration_s: shortest track that is classified.
        silence_db: windows below this level, dB full scale, do not vote; a track that has only
            such windows is refused.
        enhance: what is done to the sound before the spectrogram; nothing by default.
    """

    mel: MelConfig = field(default_factory=MelConfig)
    limits: DecodeLimits = field(default_factory=DecodeLimits)
    min_duration_s: float = 1.0
    silence_db: float = -75.0
    enhance: EnhanceConfig = field(default_factory=EnhanceConfig)

    def __post_init__(self) -> None:
        frame_s = self.mel.frame_length / self.mel.sample_rate
        if self.min_duration_s < 2 * frame_s:
            raise ValueError(
                f"min_duration_s is {self.min_duration_s} s, must be {2 * frame_s:.2f} s at least"
            )
        if self.silence_db >= 0:
            raise ValueError(f"silence_db is {self.silence_db} dB, must be below 0 dB")


class Preprocessor:
    """Audio bytes to TrackFeatures. Window and filterbank are prepared once; thread-safe.

    Args:
        config: settings.
        cache: bounds of the cache for features of known content, None for no cache.
        with_digest: whether features have the digest of their content without a cache, too.
        elsewhere: what makes the features in place of this process; see `sandbox`.
    """

    def __init__(
        self,
        config: PreprocessConfig,
        cache: CacheConfig | None = None,
        with_digest: bool = False,
        elsewhere: Elsewhere | None = None,
    ) -> None:
        self.config = config
        self._elsewhere = elsewhere
        self.digest = config_digest(config)
        self._cache = FeatureCache(cache, self.digest) if cache else None
        self._with_digest = with_digest or cache is not None
        self.spectrogram = MelSpectrogram(config.mel)

    @classmethod
    def from_folder(
        cls,
        folder: CheckpointFolder,
        config: PreprocessConfig | None = None,
        cache: CacheConfig | None = None,
        with_digest: bool = False,
    ) -> Preprocessor:
        """Stage 1 with a checkpoint's geometry.

        Args:
            folder: the checkpoint.
            config: settings; the geometry in them is replaced.
            cache: bounds of the feature cache, None for no cache.
            with_digest: see the class.
        """
        return cls(replace(config or PreprocessConfig(), mel=folder.mel), cache, with_digest)

    def process(
        self, data: bytes, effort: Effort, round_number: int = 0, content_blake3: str = ""
    ) -> TrackFeatures:
        """Features of one track, or of one round of windows of effort `auto`.

        Args:
            data: an audio file's bytes.
            effort: how many windows are evaluated.
            round_number: which round of `auto`, from 0; the result states how many windows are
                left after it.
            content_blake3: digest of `data`, "" if it is not known.

        Returns:
            (S, M, T) uint8 windows with their segments, quality and container facts.

        Raises:
            InputError: the audio cannot be read, is too short, too long or silent, or the
                effort is unknown.
        """
        if effort not in WINDOWS_BY_EFFORT:
            raise InvalidOptionError(f"effort is {effort!r}, not {', '.join(WINDOWS_BY_EFFORT)}")
        timer = StageTimer()
        with timer.stage("hash"):
            if self._with_digest and not content_blake3:
                content_blake3 = content_digest(data)
            cached = self._cache.get(content_blake3, effort, round_number) if self._cache else None
        if cached is not None:
            facts = replace(cached.facts, cached=True)
            return replace(cached, facts=facts, timings_ms=timer.timings_ms)
        if self._elsewhere is not None:
            made = self._elsewhere.process(data, effort, round_number)
            features = replace(
                made,
                facts=replace(made.facts, content_blake3=content_blake3),
                timings_ms={**timer.timings_ms, **made.timings_ms},
            )
        else:
            with timer.stage("decode"):
                reader = open_audio(data, self.config.limits)
            features = self._extract(reader, effort, round_number, content_blake3, timer)
        if self._cache:
            self._cache.put(effort, features, round_number)
        return features

    def process_parts(
        self, data: bytes, parts: FileParts, effort: Effort, round_number: int = 0
    ) -> TrackFeatures:
        """The same features from some parts of a file; the content's digest stays unknown.

        Args:
            data: the parts, one behind the other.
            parts: where they lie in the file.
            effort: how many windows are evaluated.
            round_number: which round of `auto`, from 0.

        Raises:
            BytesMissingError: more parts are needed.
            RangesUnavailableError: the file must be read whole.
            InputError: as `process`.
        """
        if self._elsewhere is not None:
            return self._elsewhere.process(data, effort, round_number, parts)
        return self.process_ranged(parts.file(data), effort, round_number)

    def process_ranged(
        self, file: RangedFile, effort: Effort, round_number: int = 0
    ) -> TrackFeatures:
        """The same features from the bytes that they need; the content's digest stays unknown.

        Args:
            file: fetches what is read.
            effort: how many windows are evaluated.
            round_number: which round of `auto`, from 0.

        Raises:
            RangesUnavailableError: the file must be read whole.
            InputError: as `process`.
        """
        timer = StageTimer()
        with timer.stage("decode"):
            reader = RangedReader(file, self.config.limits)
        return self._extract(reader, effort, round_number, "", timer)

    def _extract(
        self,
        reader: AudioReader,
        effort: Effort,
        round_number: int,
        content_blake3: str,
        timer: StageTimer,
    ) -> TrackFeatures:
        mel = self.config.mel
        with timer.stage("decode"):
            rounds = self._plan(reader.info.duration_s or 0.0, effort)
            segments = rounds[round_number]
            if isinstance(reader, RangedReader):
                reader.expect(segments)
            decoded = self._decode(reader, segments)
        with timer.stage("resample"):
            windows = [self._fit(s, w) for s, w in zip(segments, decoded.waveforms, strict=True)]
            audible = self._audible(windows)
        silence_ratio, n_remaining = None, sum(len(each) for each in rounds[round_number + 1 :])
        if not audible:
            with timer.stage("search"):
                silence_ratio, decoded, windows = self._search(reader, effort, round_number)
                audible, n_remaining = self._audible(windows), 0
        with timer.stage("mel"):
            samples = [window.samples for window in audible]
            powers = [self.spectrogram.power(each) for each in samples]
            enhanced = self._enhanced_powers(samples, powers)
            relative_db = _relative_db(enhanced, mel)
            described = mel.blocks[0]
            rows = described.n_mels
            log_mel = (
                np.stack([model_values(self.spectrogram, power) for power in enhanced])
                if mel.is_absolute
                else quantise(relative_db, mel.top_db)
            )
        with timer.stage("quality"):
            quality = measure_quality(
                [window.samples for window in windows],
                float(np.mean([each.clipping_ratio for each in decoded.waveforms])),
                np.concatenate(powers, axis=1)[:rows],
                described,
                decoded.cancellation,
            )
            if silence_ratio is not None:
                quality = replace(quality, silence_ratio=silence_ratio)
        with timer.stage("descriptors"):
            descriptors = describe(relative_db[:, :rows], described)
        facts = TrackFacts(
            segments=tuple(window.segment for window in audible),
            info=reader.info,
            quality=quality,
            descriptors=descriptors,
            content_blake3=content_blake3,
            front_end_digest=self.digest,
            n_remaining=n_remaining,
        )
        return TrackFeatures(log_mel=log_mel, facts=facts, timings_ms=timer.timings_ms)

    def _plan(self, duration_s: float, effort: Effort) -> Sequence[Sequence[Segment]]:
        if duration_s < self.config.min_duration_s:
            raise AudioTooShortError(
                f"the audio is {duration_s:.2f} s, limit is {self.config.min_duration_s:.2f} s"
            )
        return plan_rounds(duration_s, self.config.mel.window_s, effort)

    def _enhanced_powers(self, windows: list[Samples], powers: list[Samples]) -> list[Samples]:
        """Mel powers for the model; quality is always measured on the sound as it came.

        Args:
            windows: (n,) float32 samples of each window.
            powers: (M, T) mel power of each window, unchanged.
        """
        config = self.config.enhance
        if not config.is_on:
            return powers
        rate = self.config.mel.sample_rate
        return [self.spectrogram.power(enhance(each, rate, config)) for each in windows]

    def _fit(self, segment: Segment, waveform: Waveform) -> _Window:
        """At the mel's rate and one window long; a gap left by rounding is closed with zeros."""
        mel = self.config.mel
        samples = resample(waveform, mel.sample_rate, self.config.limits)
        missing = mel.window_samples - samples.size
        if 0 < missing <= mel.hop_length:
            samples = np.pad(samples, (0, missing))
        return _Window(segment=segment, samples=samples[: mel.window_samples])

    def _decode(self, reader: AudioReader, segments: Sequence[Segment]) -> Decoded:
        """Decode segments, mixed down so that channels of opposite phase do not cancel."""
        read = partial(read_complete, reader)
        with decoder_errors():
            return read_mono(read, segments, reader.info.channels, self.config.silence_db)

    def _audible(self, windows: list[_Window]) -> list[_Window]:
        """The windows above the silence limit: silence must not vote."""
        return [window for window in windows if window.level_db >= self.config.silence_db]

    def _search(
        self, reader: AudioReader, effort: Effort, round_number: int
    ) -> tuple[float, Decoded, list[_Window]]:
        """Windows elsewhere in a track whose planned windows are silent.

        Returns:
            Share of the probes that is silent, then the decoded segments and their windows.

        Raises:
            SilentAudioError: there is no sound, or this is a later round, whose silence only means
                that the rounds before it count.
        """
        if isinstance(reader, RangedReader):
            raise RangesUnavailableError("the planned windows are silent")
        limit_db, duration_s = self.config.silence_db, reader.info.duration_s or 0.0
        if round_number:
            raise SilentAudioError("the windows of this round are silent")
        with decoder_errors():
            n_windows = WINDOWS_BY_EFFORT[effort]
            found = find_sound(reader, self.config.mel.window_s, n_windows, limit_db)
        decoded = self._decode(reader, found.segments)
        windows = [self._fit(s, w) for s, w in zip(found.segments, decoded.waveforms, strict=True)]
        if not self._audible(windows):
            raise SilentAudioError(
                f"the audio is silent: the loudest of {found.n_probes} places in its "
                f"{duration_s:.0f} s is at {max(found.loudest_db, -120):.0f} dB full scale, limit "
                f"is {limit_db:.0f} dB"
            )
        return found.silence_ratio, decoded, windows


def _relative_db(powers: Sequence[Samples], mel: MelConfig) -> Samples:
    """(S, M, T) dB relative to each window's maximum, which the descriptors are made of."""
    return np.stack([power_to_db(tile_frames(p, mel.n_frames), mel.top_db) for p in powers])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Window:
    segment: Segment
    samples: npt.NDArray[np.float32]

    @property
    def level_db(self) -> float:
        mean_square = float(np.mean(np.square(self.samples, dtype=np.float64)))
        return 10 * math.log10(max(mean_square, 1e-12))
