"""Geometry of the log-mel front end: rate, frames and bands of one model window.

It belongs to the checkpoint that was trained with it, so every stage may read it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

Bands = Literal["slaney", "htk", "kaldi", "yamnet_musicnn"]
YAMNET_MELS, MUSICNN_MELS = 64, 96
Algorithm = Literal["log_mel", "kaldi_fbank", "log_mel_absolute"]


@dataclass(frozen=True, kw_only=True, slots=True)
class MelConfig:
    """Geometry of the log-mel front end, fixed by the checkpoint that was trained with it.

    Attributes:
        sample_rate: sample rate of the mono audio, Hz.
        n_fft: length of a frame's FFT, samples.
        win_length: length of a frame, samples, at most n_fft, which is filled up with zeros; None
            for n_fft.
        hop_length: distance between the starts of two frames, samples.
        n_mels: number of mel bands, M.
        f_min: lower edge of the first band, Hz.
        f_max: upper edge of the last band, Hz, at most half the sample rate.
        top_db: depth of the scale below the window's maximum, dB.
        n_frames: number of frames in one window, T.
        bands: "slaney": triangles of equal area on Slaney's mel scale over the power, as in
            librosa; "htk": triangles of equal height on the HTK scale over the magnitude, as in
            YAMNet; "kaldi": the same triangles over the power, as in Kaldi; "yamnet_musicnn": those
            of two trunks, of the same frames: first 64 bands as in YAMNet, 125 to 7,500 Hz, then 96
            of Slaney's scale from f_min to f_max.
        algorithm: how frames become values. "log_mel": dB relative to the window's maximum;
            "kaldi_fbank": Kaldi's filter bank (no offset, pre-emphasis, symmetric Hann window),
            natural logarithm of the power of samples within ±1, as in AST; "log_mel_absolute":
            centred frames, log10(1 + 10,000 · power), as in MAEST.
    """

    sample_rate: int = 22_050
    n_fft: int = 2048
    hop_length: int = 915
    n_mels: int = 128
    f_min: float = 0.0
    f_max: float = 11_025.0
    top_db: float = 80.0
    n_frames: int = 144
    win_length: int | None = None
    bands: Bands = "slaney"
    algorithm: Algorithm = "log_mel"

    def __post_init__(self) -> None:
        positive = (self.sample_rate, self.n_fft, self.hop_length, self.n_mels, self.n_frames)
        if min(positive) < 1 or self.top_db <= 0:
            raise ValueError(f"every size of the mel geometry must be positive: {self}")
        if not 1 <= self.frame_length <= self.n_fft:
            raise ValueError(f"win_length is {self.win_length}, limits are 1 to {self.n_fft}")
        if self.bands not in get_args(Bands):
            raise ValueError(f"bands are {self.bands!r}, known are {', '.join(get_args(Bands))}")
        if self.algorithm not in get_args(Algorithm):
            raise ValueError(
                f"algorithm is {self.algorithm!r}, known are {', '.join(get_args(Algorithm))}"
            )
        if self.algorithm != "log_mel" and self.bands in ("htk", "yamnet_musicnn"):
            raise ValueError(f"{self.algorithm} takes the power, bands {self.bands} the magnitude")
        if self.bands == "yamnet_musicnn" and self.n_mels != YAMNET_MELS + MUSICNN_MELS:
            raise ValueError(
                f"n_mels is {self.n_mels}, but bands yamnet_musicnn are {YAMNET_MELS} and "
                f"{MUSICNN_MELS}"
            )
        if not 0 <= self.f_min < self.f_max <= self.sample_rate / 2:
            raise ValueError(
                f"f_min {self.f_min} Hz and f_max {self.f_max} Hz must be rising within 0 to "
                f"{self.sample_rate / 2} Hz, half the sample rate"
            )

    def to_dict(self) -> dict[str, Any]:
        """JSON form; later fields stand in it only where they are not at their defaults.

        A checkpoint's digest is that of its config.json and must not change with a release.
        """
        later = {"win_length": None, "bands": "slaney", "algorithm": "log_mel"}
        return {k: v for k, v in asdict(self).items() if k not in later or v != later[k]}

    @property
    def blocks(self) -> tuple[MelConfig, ...]:
        """The spectrograms that stand one above the other in a window, lowest rows first."""
        if self.bands != "yamnet_musicnn":
            return (self,)
        first = replace(self, bands="htk", n_mels=YAMNET_MELS, f_min=125.0, f_max=7_500.0)
        return first, replace(self, bands="slaney", n_mels=MUSICNN_MELS)

    @property
    def frame_length(self) -> int:
        """Length of one frame, samples."""
        return self.n_fft if self.win_length is None else self.win_length

    @property
    def is_absolute(self) -> bool:
        """Whether values are absolute levels in float16, not uint8 relative to the maximum."""
        return self.algorithm != "log_mel"

    @property
    def shortest_s(self) -> float:
        """Length of a track below which an answer is doubtful, seconds.

        A short track is repeated until it fills a window; models of absolute levels, whose windows
        are long, were trained on windows that end in silence.
        """
        return self.window_s / 2 if self.is_absolute else self.window_s

    @property
    def window_bytes(self) -> int:
        """Size of one window of values, bytes."""
        return self.n_mels * self.n_frames * (2 if self.is_absolute else 1)

    @property
    def window_samples(self) -> int:
        """Number of samples that fill exactly `n_frames` frames."""
        if self.algorithm == "log_mel_absolute":  # the first and last frame are half outside
            return (self.n_frames - 1) * self.hop_length
        return (self.n_frames - 1) * self.hop_length + self.frame_length

    @property
    def window_s(self) -> float:
        """Length of one window in seconds."""
        return self.window_samples / self.sample_rate
