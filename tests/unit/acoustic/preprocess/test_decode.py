"""Decoding: every accepted container, and everything that must be rejected."""

from __future__ import annotations

import io
import tracemalloc

import numpy as np
import pytest
import soundfile as sf

from acoustic.errors import (
    AudioDecodeError,
    AudioTooLongError,
    InvalidRequestError,
    UnsupportedAudioError,
)
from acoustic.preprocess.decode import open_audio
from acoustic.preprocess.decode_sndfile import BLOCK_BYTES
from acoustic.preprocess.guard import DecodeLimits
from acoustic.preprocess.preprocessor import PreprocessConfig, Preprocessor
from acoustic.preprocess.waveform import Waveform, resample
from acoustic.types import Segment
from tests.support.decoding import decode_whole
from tests.support.sounds import FORMATS, encode, noise, silent_flac, streamed_flac, sweep, tone

RATE = 44_100
LOSSLESS = {"wav", "wav24", "wavfloat", "flac", "aiff", "au", "caf", "w64"}


@pytest.mark.parametrize("kind", FORMATS)
def test_every_container_decodes(kind: str) -> None:
    rate = 48_000 if kind == "opus" else RATE
    reader = open_audio(encode(sweep(3.0, rate), rate, kind))
    assert reader.info.sample_rate == rate
    assert reader.info.channels == 1
    assert reader.info.duration_s == pytest.approx(3.0, abs=0.06)
    waveform = reader.read(Segment(start_s=1.0, end_s=2.0))
    assert waveform.samples.dtype == np.float32
    assert waveform.samples.shape == (rate,)


@pytest.mark.parametrize("kind", ["wav", "flac", "mp3", "aiff"])
@pytest.mark.parametrize("start_s", [0.0, 0.7321, 2.5])
def test_a_segment_is_what_the_whole_file_has_there(kind: str, start_s: float) -> None:
    data = encode(sweep(4.0, RATE), RATE, kind)
    whole = open_audio(data).read(Segment(start_s=0.0, end_s=4.0)).samples
    part = open_audio(data).read(Segment(start_s=start_s, end_s=start_s + 1)).samples
    start = round(start_s * RATE)
    # MP3 decoders carry rounding errors from frame to frame; all other formats are bit-identical.
    tolerance = 1e-6 if kind == "mp3" else 0.0
    np.testing.assert_allclose(part, whole[start : start + RATE], rtol=0, atol=tolerance)


def test_blocks_leave_no_seam_in_an_mp3() -> None:
    """A window is read in several blocks; each must start exactly where the previous one ended."""
    stereo = np.stack([sweep(20.0, RATE)] * 2, axis=1)
    data = encode(stereo, RATE, "mp3")
    samples = open_audio(data).read(Segment(start_s=0.0, end_s=20.0)).samples
    assert samples.size * 2 * 4 > 4 * BLOCK_BYTES
    level = np.sqrt(np.convolve(samples**2, np.full(1000, 1e-3), "valid"))
    assert level[RATE : 16 * RATE].min() > 0.25


@pytest.mark.parametrize("kind", sorted(LOSSLESS))
def test_lossless_samples_come_back(kind: str) -> None:
    samples = sweep(1.0, RATE)
    decoded = open_audio(encode(samples, RATE, kind)).read(Segment(start_s=0, end_s=1)).samples
    np.testing.assert_allclose(decoded, samples, atol=1e-4)


def test_channels_are_averaged() -> None:
    stereo = np.stack([tone(440, 1.0), np.zeros(22_050, np.float32)], axis=1)
    samples = open_audio(encode(stereo, 22_050)).read(Segment(start_s=0, end_s=1)).samples
    np.testing.assert_allclose(samples, stereo[:, 0] / 2, atol=1e-4)


def test_clipping_is_counted_before_mixing_down() -> None:
    """One channel clips and the other is silent, so their mean never reaches full scale."""
    square = np.sign(tone(440, 1.0))
    stereo = np.stack([square, np.zeros_like(square)], axis=1)
    waveform = open_audio(encode(stereo, 22_050)).read(Segment(start_s=0, end_s=1))
    assert waveform.clipping_ratio == pytest.approx(0.5, abs=0.01)
    assert np.abs(waveform.samples).max() < 0.51


def test_streamed_flac_is_the_same_audio() -> None:
    flac = encode(noise(7.3, RATE), RATE, "flac")
    known, streamed = open_audio(flac), open_audio(streamed_flac(flac))
    assert streamed.info.duration_s == known.info.duration_s
    for segment in (Segment(start_s=0, end_s=2), Segment(start_s=5.5, end_s=7.3)):
        np.testing.assert_array_equal(streamed.read(segment).samples, known.read(segment).samples)


@pytest.mark.parametrize("data", [b"", b"\x00" * 3])
def test_no_audio_at_all(data: bytes) -> None:
    with pytest.raises((InvalidRequestError, UnsupportedAudioError)):
        open_audio(data)


@pytest.mark.parametrize(
    "data",
    [
        b"just some text, surely no audio",
        b"\x00\x00\x00\x20ftypM4A " + bytes(64),
        b"\x30\x26\xb2\x75\x8e\x66\xcf\x11" + bytes(64),
        b"\x1a\x45\xdf\xa3" + bytes(64),
        b"\xff\xf1\x50\x80" + bytes(64),
        b"%PDF-1.7 " + bytes(64),
    ],
    ids=["text", "m4a", "wma", "webm", "aac", "pdf"],
)
def test_foreign_bytes_are_unsupported_by_name(
    data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UnsupportedAudioError, match="accepted are WAV"):
        open_audio(data)


@pytest.mark.parametrize("kind", ["wav", "flac", "ogg", "aiff"])
def test_a_truncated_header_is_refused(kind: str) -> None:
    with pytest.raises(AudioDecodeError):
        open_audio(encode(tone(440, 2.0), 22_050, kind)[:30])


def test_a_file_cut_in_half_is_refused() -> None:
    flac = encode(noise(20.0), 22_050, "flac")
    with pytest.raises(AudioDecodeError, match=r"cannot be decoded|truncated or damaged"):
        Preprocessor(PreprocessConfig()).process(flac[: len(flac) // 2], "balanced")


def test_a_wav_header_that_lies_about_its_size_is_not_believed() -> None:
    data = bytearray(encode(tone(440, 2.0), 22_050))
    data[40:44] = (0x7FFF_FF00).to_bytes(4, "little")
    assert open_audio(bytes(data)).info.duration_s == pytest.approx(2.0)


@pytest.mark.parametrize("rate", [1, 3_999, 400_000, 655_350])
def test_absurd_sample_rates_are_refused(rate: int) -> None:
    data = bytearray(encode(tone(440, 2.0), 22_050))
    data[24:28] = rate.to_bytes(4, "little")
    with pytest.raises(UnsupportedAudioError, match=f"{rate} Hz, limits are"):
        open_audio(bytes(data))


def test_254_channels_are_refused() -> None:
    many = np.tile(tone(440, 1.0)[:, None], (1, 254))
    with pytest.raises(UnsupportedAudioError, match="254 channels, limit is 32"):
        open_audio(encode(many, 22_050))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers_are_refused(bad: float) -> None:
    samples = tone(440, 2.0)
    samples[30_000] = bad
    reader = open_audio(encode(samples, 22_050, "wavfloat"))
    with pytest.raises(AudioDecodeError, match="not finite"):
        reader.read(Segment(start_s=1.0, end_s=2.0))


def test_absurd_samples_are_refused_with_the_limit() -> None:
    reader = open_audio(encode(tone(440, 1.0) * 1e30, 22_050, "wavfloat"))
    with pytest.raises(AudioDecodeError, match="limit is 64"):
        reader.read(Segment(start_s=0.0, end_s=1.0))


def test_eight_hours_of_silence_cost_nothing() -> None:
    data = silent_flac(8 * 3600, 8000)
    tracemalloc.start()
    with pytest.raises(AudioTooLongError, match=r"480\.0 min, limit is 240\.0 min"):
        open_audio(data)
    assert tracemalloc.get_traced_memory()[1] < 10e6
    tracemalloc.stop()


def test_a_streamed_bomb_ends_at_the_byte_limit() -> None:
    data = streamed_flac(silent_flac(600, 96_000, channels=8))
    limits = DecodeLimits(max_decoded_bytes=64 << 20)
    tracemalloc.start()
    with pytest.raises(AudioTooLongError, match="more than 64 MiB"):
        open_audio(data, limits)
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()


def test_no_samples_at_all() -> None:
    with pytest.raises(AudioDecodeError, match="no audio"):
        open_audio(encode(np.zeros(0, np.float32), 22_050))


def test_a_codec_that_cannot_seek_decodes_from_the_start() -> None:
    file = io.BytesIO()
    sf.write(file, tone(440, 3.0, 8000), 8000, format="WAV", subtype="GSM610")
    waveform = open_audio(file.getvalue()).read(Segment(start_s=0.0, end_s=3.0))
    assert waveform.samples.size == pytest.approx(24_000, abs=320)


@pytest.mark.parametrize(("container", "codec"), [("WAV", "GSM610"), ("AU", "G721_32")])
def test_a_codec_that_cannot_seek_is_decoded_up_to_the_place(container: str, codec: str) -> None:
    file = io.BytesIO()
    quiet_then_loud = np.concatenate([tone(440, 5.0, 8000, 0.02), tone(440, 5.0, 8000, 0.5)])
    sf.write(file, quiet_then_loud, 8000, format=container, subtype=codec)
    reader = open_audio(file.getvalue())
    for start_s, level in ((6.0, 0.5), (2.0, 0.02), (8.0, 0.5)):
        samples = reader.read(Segment(start_s=start_s, end_s=start_s + 1)).samples
        assert np.abs(samples).max() == pytest.approx(level, rel=0.4)


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 48_000, 96_000])
def test_resampling_keeps_a_tone_and_its_level(rate: int) -> None:
    waveform = Waveform(
        samples=tone(440, 2.0, rate), sample_rate=rate, clipping_ratio=0, channels_power=0.0
    )
    out = resample(waveform, 22_050, DecodeLimits())
    assert out.size == pytest.approx(44_100, abs=2)
    middle = slice(5_000, -5_000)
    np.testing.assert_allclose(out[middle], tone(440, 2.0)[: out.size][middle], atol=2e-3)


def test_resampling_removes_what_the_new_rate_cannot_hold() -> None:
    waveform = Waveform(
        samples=tone(15_000, 1.0, 44_100),
        sample_rate=44_100,
        clipping_ratio=0,
        channels_power=0.0,
    )
    assert np.abs(resample(waveform, 22_050, DecodeLimits())[2000:-2000]).max() < 1e-3


def test_resampled_length_is_bounded() -> None:
    waveform = Waveform(
        samples=np.zeros(4_000, np.float32),
        sample_rate=4_000,
        clipping_ratio=0,
        channels_power=0.0,
    )
    with pytest.raises(AudioTooLongError, match="limit is 1000"):
        resample(waveform, 22_050, DecodeLimits(max_resampled_samples=1000))


def test_decode_whole_reads_everything() -> None:
    assert decode_whole(encode(sweep(5.0, RATE), RATE, "flac"), 22_050).size == 5 * 22_050


def test_flac_behind_an_id3_tag_is_found_by_libsndfile() -> None:
    tag = b"ID3\x04\x00\x00\x00\x00\x00\x0a" + bytes(10)
    reader = open_audio(tag + encode(tone(440, 2.0), 22_050, "flac"))
    assert reader.info.format == "FLAC"
