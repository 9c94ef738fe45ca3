"""The guide's front end beside ours: the same spectrogram, and times that mean something."""

from __future__ import annotations

import pytest

from acoustic.errors import AudioDecodeError, UnsupportedAudioError
from acousticsense.reference import GUIDE_MEL, compare_front_ends
from tests.support.sounds import encode, noise, sweep


# librosa imports its older decoder, which imports modules that Python deprecates
@pytest.mark.filterwarnings("ignore:'(aifc|audioop|sunau)' is deprecated:DeprecationWarning")
@pytest.mark.parametrize("kind", ["wav", "flac"])
def test_both_front_ends_give_the_same_spectrogram(kind: str) -> None:
    sound = sweep(8.0) + 0.1 * noise(8.0)
    found = compare_front_ends(encode(sound, GUIDE_MEL.sample_rate, kind), n_runs=1)
    assert found.max_difference_db < 0.01
    assert min(found.librosa_ms, found.librosa_decode_ms, found.our_ms, found.our_decode_ms) > 0


def test_what_cannot_be_decoded_is_refused() -> None:
    with pytest.raises((AudioDecodeError, UnsupportedAudioError)):
        compare_front_ends(b"not audio at all", n_runs=1)
