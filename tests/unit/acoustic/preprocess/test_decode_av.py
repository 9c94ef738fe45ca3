"""M4A, AAC and WebM through the optional decoder."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from acoustic.errors import AudioDecodeError, AudioTooLongError, UnsupportedAudioError
from acoustic.preprocess.decode import open_audio
from acoustic.preprocess.decode_av import AvReader
from acoustic.preprocess.guard import DecodeGuard, DecodeLimits
from acoustic.preprocess.preprocessor import PreprocessConfig, Preprocessor
from acoustic.types import Segment
from tests.support.decoding import decode_whole
from tests.support.encode_av import CODECS as ALL_CODECS
from tests.support.encode_av import RATE, encode_av
from tests.support.sounds import Samples, encode, tone

NAMES = {"mp4": "MP4", "adts": "AAC", "webm": "WebM"}
CODECS = {kind: ALL_CODECS[kind] for kind in NAMES}


def stepped_tone() -> Samples:
    """220 Hz, 440 Hz, 880 Hz, two seconds each: the pitch shows the position of a segment."""
    return np.concatenate([tone(hz, 2.0, RATE) for hz in (220, 440, 880)])


def loudest_hz(samples: Samples) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(samples.size)))
    return float(np.fft.rfftfreq(samples.size, 1 / RATE)[spectrum.argmax()])


@pytest.mark.parametrize("kind", CODECS)
def test_a_segment_is_found(kind: str) -> None:
    reader = open_audio(encode_av(stepped_tone(), kind))
    assert reader.info.format == NAMES[kind]
    assert reader.info.duration_s == pytest.approx(6.0, abs=0.35)
    for start_s, hz in ((0.3, 220), (2.5, 440), (4.5, 880)):
        waveform = reader.read(Segment(start_s=start_s, end_s=start_s + 1))
        assert waveform.samples.size == pytest.approx(RATE, abs=2000)
        assert loudest_hz(waveform.samples) == pytest.approx(hz, abs=3)


def test_the_samples_are_the_encoders() -> None:
    """Position and level of decoded M4A equal the original within the coding error."""
    original = stepped_tone()
    found = open_audio(encode_av(original, "mp4")).read(Segment(start_s=2.5, end_s=3.5)).samples
    expected = original[round(2.5 * RATE) : round(3.5 * RATE)][: found.size]
    assert np.corrcoef(found, expected)[0, 1] > 0.99
    assert np.abs(found).max() == pytest.approx(0.5, abs=0.05)


def test_stereo_is_mixed_down() -> None:
    waveform = open_audio(encode_av(tone(440, 3.0, RATE), "mp4", channels=2)).read(
        Segment(start_s=1.0, end_s=2.0)
    )
    assert waveform.samples.ndim == 1
    assert np.abs(waveform.samples).max() == pytest.approx(0.5, abs=0.06)


def test_it_goes_through_the_whole_stage() -> None:
    features = Preprocessor(PreprocessConfig()).process(
        encode_av(tone(440, 20.0, RATE), "mp4"), "balanced"
    )
    assert features.log_mel.shape == (3, 128, 144)


@pytest.mark.parametrize("kind", ["mp4", "webm"])
def test_damage_is_an_input_error(kind: str) -> None:
    data = encode_av(stepped_tone(), kind)
    for broken in (data[:40], data[: len(data) // 3], data[:20] + bytes(len(data) - 20)):
        with pytest.raises((AudioDecodeError, UnsupportedAudioError)):
            Preprocessor(PreprocessConfig()).process(broken, "thorough")


def test_a_stream_that_changes_its_layout_is_refused_by_name() -> None:
    """Raw frames are split before; inside a container the decoder sees the change."""
    joined = encode_av(tone(440, 3.0, RATE), "adts") + encode_av(tone(440, 3.0, RATE), "adts", 2)
    reader = AvReader(joined, "AAC", DecodeGuard(DecodeLimits()))
    with pytest.raises(
        AudioDecodeError, match=r"changes from 48,000 Hz and 1 channels .* at 3\.\d s"
    ):
        reader.read(Segment(start_s=0.0, end_s=6.0))


@pytest.mark.parametrize("ratio", [0.5, 1.0, 2.0])
def test_the_stated_length_is_compared_with_the_packets(ratio: float) -> None:
    """WebM states its length as a float of 8 bytes behind the id 4489."""
    data = bytearray(encode_av(stepped_tone(), "webm"))
    at = data.index(b"\x44\x89\x88") + 3
    stated = struct.unpack(">d", data[at : at + 8])[0]
    data[at : at + 8] = struct.pack(">d", stated * ratio)
    if ratio > 1:
        with pytest.raises(AudioDecodeError, match=r"promises 12\.\d s .* ends at 6\.\d s"):
            open_audio(bytes(data))
        return
    info = open_audio(bytes(data)).info
    assert info.duration_s == pytest.approx(6.0, abs=0.35)
    expected = None if ratio == 1 else pytest.approx(3.0, abs=0.2)
    assert info.stated_duration_s == expected


def test_other_codecs_are_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("acoustic.preprocess.decode_av.CODECS", ("aac", "opus"))
    with pytest.raises(UnsupportedAudioError, match="is ac3; accepted are aac, opus"):
        open_audio(encode_av(tone(440, 2.0, RATE), "mp4-ac3"))


def test_raw_aac_is_measured_by_its_packets() -> None:
    """Loud noise first: an estimate from the bitrate of the first frames would be too short."""
    rng = np.random.default_rng(0)
    loud = (0.3 * rng.standard_normal(5 * RATE)).astype(np.float32)
    data = encode_av(np.concatenate([loud, np.zeros(25 * RATE, np.float32)]), "adts")
    assert open_audio(data).info.duration_s == pytest.approx(30.0, abs=0.3)


def test_limits_hold_here_as_well() -> None:
    data = encode_av(stepped_tone(), "mp4")
    with pytest.raises(AudioTooLongError, match="limit"):
        open_audio(data, DecodeLimits(max_duration_s=3.0))
    with pytest.raises(AudioTooLongError, match="MiB"):
        decode_whole(data, 22_050, DecodeLimits(max_decoded_bytes=100_000))
    with pytest.raises(UnsupportedAudioError, match="48000 Hz"):
        open_audio(data, DecodeLimits(max_sample_rate=44_100))


def test_without_the_extra_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encode_av(tone(440, 2.0, RATE), "mp4")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UnsupportedAudioError, match=r"acousticsense\[formats\]"):
        open_audio(data)


def test_what_libsndfile_reads_does_not_come_here() -> None:
    assert type(open_audio(encode(tone(440, 1.0), 22_050))).__name__ == "SndfileReader"
