"""Log-mel front end: checked by physics and against librosa."""

from __future__ import annotations

import librosa
import numpy as np
import pytest

from acoustic.geometry import MelConfig
from acoustic.mel_bands import mel_band_edges_hz, mel_filterbank
from acoustic.preprocess.mel import MelSpectrogram, power_to_db
from tests.support.sounds import noise, sweep, tone

REFERENCE_TOLERANCE_DB = 2e-3  # single precision: processors differ in the last digits
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


AUDIOSET = MelConfig(
    sample_rate=16_000, n_fft=512, win_length=400, hop_length=160, n_mels=64,
    f_min=125.0, f_max=7_500.0, n_frames=96, bands="htk",
)  # fmt: skip


def test_the_bands_of_audioset_are_triangles_over_the_htk_scale_of_the_magnitude() -> None:
    """The definition, written out with loops and a plain FFT of 25 ms frames filled with zeros."""
    waveform = noise(1.0, level=0.1)[: AUDIOSET.window_samples]
    edges = np.linspace(1127 * np.log1p(125 / 700), 1127 * np.log1p(7500 / 700), 66)
    mels = 1127 * np.log1p(np.arange(257) * 16_000 / 512 / 700)
    filters = np.zeros((64, 257))
    for m in range(64):
        for k in range(1, 257):  # without the bin at 0 Hz
            rise = (mels[k] - edges[m]) / (edges[m + 1] - edges[m])
            fall = (edges[m + 2] - mels[k]) / (edges[m + 2] - edges[m + 1])
            filters[m, k] = max(0.0, min(rise, fall))
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    frames = np.stack([waveform[i * 160 : i * 160 + 400] * window for i in range(96)])
    magnitude = filters @ np.abs(np.fft.rfft(frames, 512)).T
    found = MelSpectrogram(AUDIOSET).power(waveform)
    np.testing.assert_allclose(np.sqrt(found), magnitude, rtol=2e-4, atol=2e-6)
    htk = librosa.filters.mel(
        sr=16_000, n_fft=512, n_mels=64, fmin=125, fmax=7500, htk=True, norm=None
    )
    # straight over mel, not over Hz as librosa has it: the same places, nearly the same heights
    assert np.abs(mel_filterbank(AUDIOSET) - htk).max() < 0.05


@pytest.mark.parametrize("changes", [{"win_length": 0}, {"win_length": 2049}, {"bands": "bark"}])
def test_frames_longer_than_their_fft_and_unknown_bands_are_refused(changes: dict) -> None:
    with pytest.raises(ValueError, match=r"limits are 1 to 2048|known are slaney, htk"):
        MelConfig(**changes)


def test_a_geometry_of_an_earlier_release_is_written_as_it_was() -> None:
    assert set(MelConfig().to_dict()) == {
        "sample_rate", "n_fft", "hop_length", "n_mels", "f_min", "f_max", "top_db", "n_frames",
    }  # fmt: skip
    assert MelConfig(**AUDIOSET.to_dict()) == AUDIOSET


@pytest.mark.parametrize("config", [MelConfig(), AUDIOSET], ids=["slaney", "htk"])
@pytest.mark.parametrize("hz", [440.0, 1000.0, 4000.0, 7000.0])
def test_a_tone_lands_in_its_band_of_either_scale(config: MelConfig, hz: float) -> None:
    sound = tone(hz, config.window_s + 0.1, sample_rate=config.sample_rate)[: config.window_samples]
    mean = MelSpectrogram(config)(sound).mean(axis=1)
    low, high = mel_band_edges_hz(config)[[int(mean.argmax()), int(mean.argmax()) + 2]]
    assert low <= hz <= high


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
