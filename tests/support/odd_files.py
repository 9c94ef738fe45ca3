"""Files as people have them: joined, cut, with wrong headers, behind junk, of opposite phase.

`ODD_FILES` is one table for all tests: every way in must answer it alike.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tests.support.encode_av import encode_av
from tests.support.sounds import Samples, encode, noise, sweep

RATE = 44_100
LENGTH_S = 9.0


@dataclass(frozen=True, kw_only=True)
class OddFile:
    """A file, and what must come out of it.

    Attributes:
        make: builds its bytes.
        duration_s: length of its audio, seconds; None where it is refused.
        code: error code where it is refused.
        says: part of the error message.
        reason: review reason that it must have; "" where it must have none of the two new ones.
    """

    make: Callable[[], bytes]
    duration_s: float | None = None
    code: str = ""
    says: str = ""
    reason: str = ""


def song(seed: int = 0, seconds: float = LENGTH_S, rate: int = RATE) -> Samples:
    """A rising tone in noise, with sound at all frequencies."""
    return 0.5 * sweep(seconds, rate) + noise(seconds, rate, 0.05, seed)


def stereo(mono: Samples, right: float = 1.0) -> Samples:
    return np.stack([mono, np.float32(right) * mono], axis=1)


def one(kind: str, seed: int = 0, rate: int = RATE, channels: int = 2) -> bytes:
    rate = 48_000 if kind == "opus" else rate
    mono = song(seed, rate=rate)
    return encode(stereo(mono) if channels == 2 else mono, rate, kind)


def id3(content: bytes = bytes(300), flags: int = 0, stated: int | None = None) -> bytes:
    size = len(content) if stated is None else stated
    digits = bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0))
    footer = b"3DI\x04\x00" + bytes([flags]) + digits if flags & 0x10 else b""
    return b"ID3\x04\x00" + bytes([flags]) + digits + content + footer


def ape(content: bytes = bytes(200)) -> bytes:
    return (
        b"APETAGEX" + (2000).to_bytes(4, "little") + len(content).to_bytes(4, "little")
        + bytes(4) + (0xA0000000).to_bytes(4, "little") + bytes(8) + content
    )  # fmt: skip


def patched(data: bytes, at: int, content: bytes) -> bytes:
    return data[:at] + content + data[at + len(content) :]


def data_size_at(wav: bytes) -> int:
    return wav.index(b"data") + 4


def wav_with_size(size: int) -> bytes:
    wav = one("wav")
    return patched(wav, data_size_at(wav), size.to_bytes(4, "little"))


def crashed_wav() -> bytes:
    """A recorder writes both sizes at the end."""
    return patched(wav_with_size(0), 4, bytes(4))


def flac_with_total(ratio: float) -> bytes:
    flac = one("flac")
    fields = int.from_bytes(flac[18:26], "big")
    total = round((fields & (1 << 36) - 1) * ratio)
    return patched(flac, 18, (fields >> 36 << 36 | total).to_bytes(8, "big"))


def cut(data: bytes, ratio: float) -> bytes:
    return data[: round(len(data) * ratio)]


def hidden_track(kind: str) -> bytes:
    """Music, a long silence, music: every planned window lies in the silence."""
    music = song(seconds=7.0)
    silence = np.zeros(round(100 * RATE), np.float32)
    return encode(np.concatenate([music, silence, music]), RATE, kind)


def junk(n: int) -> bytes:
    return np.random.default_rng(0).integers(0, 255, n).astype(np.uint8).tobytes()


TWICE = 2 * LENGTH_S
JOINED = "LENGTH_MISMATCH"
CANCEL = "CHANNELS_CANCEL"

ODD_FILES: dict[str, OddFile] = {
    # joined and chained
    "mp3 joined": OddFile(make=lambda: one("mp3") + one("mp3", 1), duration_s=TWICE, reason=JOINED),
    "mp3 joined, tag between": OddFile(
        make=lambda: one("mp3") + id3(junk(5000)) + one("mp3", 1), duration_s=TWICE, reason=JOINED
    ),
    "mp3 joined, other rate": OddFile(
        make=lambda: one("mp3") + one("mp3", 1, 48_000), duration_s=TWICE, reason=JOINED
    ),
    "mp3 joined, stereo and mono": OddFile(
        make=lambda: one("mp3") + one("mp3", 1, channels=1), duration_s=TWICE, reason=JOINED
    ),
    "vorbis chained": OddFile(
        make=lambda: one("ogg") + one("ogg", 1), duration_s=TWICE, reason=JOINED
    ),
    "vorbis chained, other rate": OddFile(
        make=lambda: one("ogg") + one("ogg", 1, 22_050), duration_s=TWICE, reason=JOINED
    ),
    "vorbis chained, cut in the last header": OddFile(
        make=lambda: one("ogg") + one("ogg", 1) + one("ogg", 2)[:2500],
        duration_s=TWICE, reason=JOINED,
    ),
    "vorbis, then the start of another header": OddFile(
        make=lambda: one("ogg") + one("ogg", 1)[:2500], duration_s=LENGTH_S
    ),
    "opus, then vorbis": OddFile(
        make=lambda: one("opus") + one("ogg", 1), duration_s=TWICE, reason=JOINED
    ),
    "the same vorbis twice": OddFile(
        make=lambda: one("ogg") * 2, duration_s=TWICE, reason=JOINED
    ),
    "flac joined": OddFile(
        make=lambda: one("flac") + one("flac", 1), duration_s=TWICE, reason=JOINED
    ),
    "the same flac three times": OddFile(
        make=lambda: one("flac") * 3, duration_s=3 * LENGTH_S, reason=JOINED
    ),
    "wav joined": OddFile(
        make=lambda: one("wav") + one("wav", 1, 22_050), duration_s=TWICE, reason=JOINED
    ),
    "aiff joined": OddFile(make=lambda: one("aiff") * 2, duration_s=TWICE, reason=JOINED),
    "au joined": OddFile(make=lambda: one("au") * 2, duration_s=TWICE, reason=JOINED),
    "adts joined, other rate": OddFile(
        make=lambda: encode_av(song(rate=48_000), "adts")
        + encode_av(song(1, rate=RATE), "adts", rate=RATE),
        duration_s=TWICE, reason=JOINED,
    ),
    "mp4 joined": OddFile(
        make=lambda: encode_av(song(rate=48_000), "mp4") * 2,
        code="audio_decode_failed", says="several MP4 files joined",
    ),
    "webm joined": OddFile(
        make=lambda: encode_av(song(rate=48_000), "webm") * 2,
        code="audio_decode_failed", says="several WebM files joined",
    ),
    # headers that state another length
    "flac that states half": OddFile(
        make=lambda: flac_with_total(0.5), duration_s=LENGTH_S, reason=JOINED
    ),
    "flac that states twice as much": OddFile(
        make=lambda: flac_with_total(2.0), code="audio_decode_failed", says="truncated"
    ),
    "wav that states a tenth": OddFile(
        make=lambda: wav_with_size(len(one("wav")) // 10), duration_s=LENGTH_S, reason=JOINED
    ),
    "wav of a crashed recorder": OddFile(make=crashed_wav, duration_s=LENGTH_S),
    "wav to a pipe": OddFile(make=lambda: wav_with_size(0xFFFFFFFF), duration_s=LENGTH_S),
    "wav cut": OddFile(
        make=lambda: cut(one("wav"), 0.7), duration_s=0.7 * LENGTH_S, reason=JOINED
    ),
    "flac cut": OddFile(
        make=lambda: cut(one("flac"), 0.6), code="audio_decode_failed", says="truncated"
    ),
    "mp3 cut a little": OddFile(
        make=lambda: cut(one("mp3"), 0.9), duration_s=0.9 * LENGTH_S, reason=JOINED
    ),
    # opposite phase
    "wav, opposite phase": OddFile(
        make=lambda: encode(stereo(song(), -1), RATE, "wav"), duration_s=LENGTH_S, reason=CANCEL
    ),
    "mp3, opposite phase": OddFile(
        make=lambda: encode(stereo(song(), -0.999), RATE, "mp3"),
        duration_s=LENGTH_S, reason=CANCEL,
    ),
    "vorbis, opposite phase": OddFile(
        make=lambda: encode(stereo(song(), -1), RATE, "ogg"), duration_s=LENGTH_S, reason=CANCEL
    ),
    "mp4, opposite phase": OddFile(
        make=lambda: encode_av(stereo(song(rate=48_000), -1).T, "mp4", 2),
        duration_s=LENGTH_S, reason=CANCEL,
    ),
    "sound on the left only": OddFile(
        make=lambda: encode(stereo(song(), 0), RATE, "flac"), duration_s=LENGTH_S
    ),
    # silence
    "hidden track, flac": OddFile(make=lambda: hidden_track("flac"), duration_s=114.0),
    "hidden track, mp3": OddFile(make=lambda: hidden_track("mp3"), duration_s=114.0),
    "silence": OddFile(
        make=lambda: encode(np.zeros(30 * RATE, np.float32), RATE, "flac"),
        code="silent_audio", says="the loudest of 30 places in its 30 s",
    ),
    # what stands in front
    "zeros, then mp3": OddFile(make=lambda: bytes(1000) + one("mp3"), duration_s=LENGTH_S),
    "junk, then mp3": OddFile(make=lambda: junk(3000) + one("mp3"), duration_s=LENGTH_S),
    "junk, then flac": OddFile(make=lambda: junk(3000) + one("flac"), duration_s=LENGTH_S),
    "zeros, then mp4": OddFile(
        make=lambda: bytes(1000) + encode_av(song(rate=48_000), "mp4"), duration_s=LENGTH_S
    ),
    "id3 with a footer": OddFile(
        make=lambda: id3(flags=0x10) + one("mp3"), duration_s=LENGTH_S
    ),
    "id3 that states too little": OddFile(
        make=lambda: id3(junk(4000), stated=100) + one("mp3"), duration_s=LENGTH_S
    ),
    "a large picture before mp3": OddFile(
        make=lambda: id3(junk(900_000)) + one("mp3"), duration_s=LENGTH_S
    ),
    "two tags, then flac": OddFile(
        make=lambda: id3() + id3(bytes(5000)) + one("flac"), duration_s=LENGTH_S
    ),
    "ape tag, then mp3": OddFile(make=lambda: ape() + one("mp3"), duration_s=LENGTH_S),
    "adts behind id3": OddFile(
        make=lambda: id3() + encode_av(song(rate=48_000), "adts"), duration_s=LENGTH_S
    ),
    "flac in ogg": OddFile(
        make=lambda: encode_av(song(rate=48_000), "ogg"), duration_s=LENGTH_S
    ),
    "speex in ogg": OddFile(
        make=lambda: one("ogg").replace(b"\x01vorbis", b"Speex   ", 1),
        code="unsupported_audio", says="Speex in Ogg",
    ),
    "ac-3 in mp4": OddFile(
        make=lambda: encode_av(song(rate=48_000), "mp4-ac3"), duration_s=LENGTH_S
    ),
    "a picture behind id3": OddFile(
        make=lambda: id3() + b"\xff\xd8\xff\xe0" + junk(5000),
        code="unsupported_audio", says="a JPEG picture",
    ),
    "an archive with music": OddFile(
        make=lambda: b"PK\x03\x04" + bytes(40) + one("mp3"),
        code="unsupported_audio", says="a ZIP archive",
    ),
    "a video": OddFile(
        make=lambda: b"RIFF\x00\x00\x10\x00AVI " + one("mp3"),
        code="unsupported_audio", says="of type 'AVI'",
    ),
}  # fmt: skip
