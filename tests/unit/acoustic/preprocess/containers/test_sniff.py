"""Containers by their first bytes: a table of magic numbers, and no guess for anything else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acoustic.preprocess.containers.sniff import (
    ACCEPTED,
    FOREIGN,
    HINT_BYTES,
    accepted_formats,
    other_format,
    sniff,
)
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
def test_other_files_have_no_container(head: bytes) -> None:
    assert sniff(head) is None


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"RIFF\x00\x00\x00\x00AVI ", "a RIFF file of type 'AVI'"),
        (b"wvpk" + bytes(30), "WavPack audio"),
        (b"%PDF-1.7", "a PDF document"),
        (b"PK\x03\x04" + bytes(30), "a ZIP archive"),
        ((b"\x47" + bytes(187)) * 2, "an MPEG transport stream"),
        (b"a song about nothing", None),
    ],
)
def test_what_is_sent_by_mistake_is_called_by_its_name(head: bytes, name: str | None) -> None:
    assert other_format(head) == name


def test_the_list_is_that_of_this_installation(monkeypatch: pytest.MonkeyPatch) -> None:
    assert all(name in accepted_formats() for name in ACCEPTED + FOREIGN)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "acousticsense[formats]" in accepted_formats()


@quick
@given(head=st.binary(min_size=1, max_size=HINT_BYTES), tail=st.binary(max_size=40))
def test_only_the_first_bytes_count(head: bytes, tail: bytes) -> None:
    full = head + bytes(HINT_BYTES - len(head))

    assert sniff(full) == sniff(full + tail)


@pytest.mark.parametrize("kind", sorted(FORMATS))
def test_what_an_encoder_writes_is_recognised(kind: str) -> None:
    rate = 48_000 if kind == "opus" else 44_100
    assert sniff(encode(tone(440, 0.5, rate), rate, kind)) in ACCEPTED
