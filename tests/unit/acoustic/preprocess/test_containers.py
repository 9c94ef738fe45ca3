"""Containers by their first bytes: a table of magic numbers, and no guess for anything else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acoustic.errors import InvalidRequestError, UnsupportedAudioError
from acoustic.preprocess.containers import ACCEPTED, FOREIGN, HINT_BYTES, SUFFIXES, sniff
from tests.support.properties import quick
from tests.support.sounds import FORMATS, encode, tone

KNOWN = [
    (b"RIFF\x00\x00\x00\x00WAVE", "WAV"),
    (b"RIFX\x00\x00\x00\x00WAVE", "WAV"),
    (b"RF64\xff\xff\xff\xffWAVE", "WAV"),
    (b"FORM\x00\x00\x00\x00AIFF", "AIFF"),
    (b"FORM\x00\x00\x00\x00AIFC", "AIFF"),
    (b"\x00\x00\x00\x20ftypM4A ", "MP4"),
    (b"fLaC", "FLAC"),
    (b"OggS", "Ogg"),
    (b"ID3\x04", "MP3"),
    (b".snd", "AU"),
    (b"caff", "CAF"),
    (b"\x1a\x45\xdf\xa3", "WebM"),
    (b"\xff\xfb\x90\x00", "MP3"),  # MPEG-1 layer III, 128 kbit/s, 44.1 kHz
    (b"\xff\xf3\x40\xc4", "MP3"),  # MPEG-2 layer III
    (b"\xff\xf1\x50\x80", "AAC"),  # ADTS
]
UNKNOWN = [
    b"RIFF\x00\x00\x00\x00AVI ",  # a video
    b"RIFF\x00\x00\x00\x00WEBP",  # a picture
    b"FORM\x00\x00\x00\x00ILBM",
    b"\xff\xd8\xff\xe0",  # JPEG: no sync of 11 bits
    b"\xff\xfb\xf0\x00",  # reserved bitrate
    b"\xff\xfb\x9c\x00",  # reserved sample rate
    b"\xff\xe1\x50\x80",  # layer 0 without the sync of ADTS
    b"\xff\xfb\x90",  # cut after three bytes
    b"\x89PNG\r\n\x1a\n",
    b"%PDF-1.7",
    b"<html>",
]


@pytest.mark.parametrize(("head", "name"), KNOWN)
def test_the_magic_number_names_the_container(head: bytes, name: str) -> None:
    assert name in ACCEPTED + FOREIGN
    assert sniff(head) == sniff(head + bytes(100)) == name


@pytest.mark.parametrize("head", UNKNOWN)
def test_other_files_are_refused_with_what_is_accepted(head: bytes) -> None:
    with pytest.raises(UnsupportedAudioError, match="accepted are WAV, FLAC, Ogg, MP3"):
        sniff(head)


def test_no_bytes_are_another_error_than_unknown_bytes() -> None:
    with pytest.raises(InvalidRequestError, match="0 bytes"):
        sniff(b"")


@quick
@given(head=st.binary(min_size=1, max_size=HINT_BYTES), tail=st.binary(max_size=40))
def test_only_the_first_bytes_count(head: bytes, tail: bytes) -> None:
    full = head + bytes(HINT_BYTES - len(head))

    def answer(data: bytes) -> str:
        try:
            return sniff(data)
        except UnsupportedAudioError:
            return "unknown"

    assert answer(full) == answer(full + tail)


@pytest.mark.parametrize("kind", sorted(FORMATS))
def test_what_an_encoder_writes_is_recognised(kind: str) -> None:
    rate = 48_000 if kind == "opus" else 44_100
    assert sniff(encode(tone(440, 0.5, rate), rate, kind)) in ACCEPTED


def test_suffixes_are_lower_case_and_unique() -> None:
    assert len(set(SUFFIXES)) == len(SUFFIXES)
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in SUFFIXES)
