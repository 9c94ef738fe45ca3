"""Log-mel front end: checked by physics and against librosa."""

from __future__ import annotations

import librosa
import numpy as np
import pytest

from acoustic.geometry import MelConfig
from acoustic.preprocess.mel import MelSpectrogram, mel_band_edges_hz, mel_filterbank, power_to_db
from tests.support.sounds import noise, sweep, tone

REFERENCE_TOLERANCE_DB = 1e-3
SEED_GEOMETRY = MelConfig(n_fft=1024, hop_length=256, n_mels=40, n_frames=224)


@pytest.mark.parametrize("config", [MelConfig(), SEED_GEOMETRY], ids=["default", "seed"])
@pytest.mark.parametrize("sound", ["noise", "sweep", "tone"])
def test_equals_librosa(config: MelConfig, sound: str) -> None:
    duration_s = config.window_s + 0.01
    waveform = {"noise": noise, "sweep": sweep}.get(sound, lambda s: tone(440, s))(duration_s)
    waveform = waveform[: config.window_samples]
    power = librosa.feature.melspectrogram(
        y=waveform,
        sr=config.sample_rate,
        n_fft=config.n_fft,
        hop_length=config.hop_length,
        n_mels=config.n_mels,
        fmin=config.f_min,
        fmax=config.f_max,
        center=False,
    )
    expected = librosa.power_to_db(power, ref=np.max, top_db=config.top_db)
    ours = MelSpectrogram(config)(waveform)
    assert ours.shape == (config.n_mels, config.n_frames)
    assert np.abs(ours - expected).max() < REFERENCE_TOLERANCE_DB


@pytest.mark.parametrize("config", [MelConfig(), SEED_GEOMETRY, MelConfig(f_min=50, f_max=8000)])
def test_filterbank_equals_librosa(config: MelConfig) -> None:
    expected = librosa.filters.mel(
        sr=config.sample_rate,
        n_fft=config.n_fft,
        n_mels=config.n_mels,
        fmin=config.f_min,
        fmax=config.f_max,
    )
    np.testing.assert_allclose(mel_filterbank(config), expected, atol=1e-8)


@pytest.mark.parametrize("hz", [110.0, 440.0, 1000.0, 4000.0, 9000.0])
def test_a_tone_lands_in_its_band(hz: float) -> None:
    config = MelConfig()
    mean = MelSpectrogram(config)(tone(hz, config.window_s)).mean(axis=1)
    low, high = mel_band_edges_hz(config)[[int(mean.argmax()), int(mean.argmax()) + 2]]
    assert low <= hz <= high


def test_gain_changes_nothing() -> None:
    mel = MelSpectrogram(MelConfig())
    waveform = noise(mel.config.window_s)
    np.testing.assert_allclose(mel(waveform), mel(waveform * 0.25), atol=1e-3)


def test_the_maximum_is_zero_and_the_floor_holds() -> None:
    mel = MelSpectrogram(MelConfig())
    log_mel = mel(tone(440, mel.config.window_s))
    assert log_mel.max() == 0
    assert log_mel.min() == -80


def test_silence_is_finite() -> None:
    mel = MelSpectrogram(MelConfig())
    assert np.isfinite(mel(np.zeros(mel.config.window_samples, np.float32))).all()


def test_a_click_is_heard_only_in_its_frames() -> None:
    mel = MelSpectrogram(MelConfig())
    waveform = np.zeros(mel.config.window_samples, np.float32)
    waveform[50_000] = 1.0
    loud = np.flatnonzero(mel.power(waveform).sum(axis=0) > 0)
    first = (50_000 - mel.config.n_fft) // mel.config.hop_length + 1
    assert loud.min() >= first - 1
    assert loud.max() <= 50_000 // mel.config.hop_length


def test_blocks_do_not_show() -> None:
    """Several FFT blocks give the same result as one frame at a time."""
    mel = MelSpectrogram(MelConfig())
    waveform = sweep(mel.config.window_s)[: mel.config.window_samples]
    whole = mel.power(waveform)
    for frame in (0, 63, 64, 100, mel.config.n_frames - 1):
        start = frame * mel.config.hop_length
        alone = mel.power(waveform[start : start + mel.config.n_fft])
        np.testing.assert_allclose(whole[:, frame], alone[:, 0], rtol=1e-4, atol=1e-7)


def test_power_to_db_of_a_ratio() -> None:
    power = np.array([[1.0, 0.1, 1e-20]], np.float32)
    np.testing.assert_allclose(power_to_db(power, 80.0), [[0, -10, -80]], atol=1e-5)


@pytest.mark.parametrize(
    "bad", [{"n_mels": 0}, {"f_max": 20_000.0}, {"f_min": 11_025.0}, {"top_db": 0.0}]
)
def test_impossible_geometry_is_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"positive|rising"):
        MelConfig(**bad)  # type: ignore[arg-type]


def test_less_than_a_frame_is_refused() -> None:
    with pytest.raises(ValueError, match="less than one frame"):
        MelSpectrogram(MelConfig()).power(np.zeros(100, np.float32))
