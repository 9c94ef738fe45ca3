"""Copies of a recording: found by content, kept on one side, listed where the genres differ."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest

from acoustic.data.copies import list_two_genres, with_contents
from acoustic.data.dataset import read_dataset
from acoustic.data.sources import list_rows
from acoustic.data.splits import assign_splits
from acoustic.errors import ConfigError
from acoustic.geometry import MelConfig
from acoustic.labels import Label, LabelSet
from tests.support.clips import write_song

MEL = MelConfig(n_frames=130)


@pytest.fixture
def songs(tmp_path: Path) -> Path:
    """Two genres of twelve songs, the first six of each with a copy under another name."""
    for genre in ("Jazz", "Rock"):
        for i in range(12):
            path = tmp_path / genre / f"{i}.wav"
            write_song(path, i, 7.0)
            if i < 6:
                shutil.copyfile(path, path.with_name(f"copy of {i}.wav"))
    return tmp_path


@pytest.mark.parametrize("seed", range(5))
def test_copies_stay_on_one_side_of_the_split(songs: Path, seed: int) -> None:
    rows = with_contents(list_rows(songs, MEL))
    splits = assign_splits(rows, 0.25, seed)
    sides: dict[str, set[str]] = {}
    for row, split in zip(rows, splits, strict=True):
        if row.content:
            sides.setdefault(row.content, set()).add(split)
    assert len(sides) == 24
    assert len(rows) == 36
    assert all(len(side) == 1 for side in sides.values())
    assert set(splits) == {"train", "valid"}


def test_only_files_of_one_size_are_read(songs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (songs / "Jazz" / "short.wav").write_bytes(b"x")
    rows = with_contents(list_rows(songs, MEL))
    assert next(row for row in rows if row.file.endswith("short.wav")).content == ""


def test_stated_splits_that_divide_copies_are_refused(songs: Path) -> None:
    (songs / "manifest.csv").write_text(
        "path,genre,split\nJazz/0.wav,Jazz,train\nJazz/copy of 0.wav,Jazz,valid\n"
        "Rock/9.wav,Rock,train\n"
    )
    with pytest.raises(ConfigError, match=r"content of .*0\.wav.* is in two splits"):
        read_dataset([songs / "manifest.csv"], MEL)


def test_a_recording_with_two_genres_is_listed(
    songs: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copyfile(songs / "Jazz" / "0.wav", songs / "Rock" / "other name.wav")
    rows = with_contents(list_rows(songs, MEL))
    with caplog.at_level(logging.WARNING):
        assert list_two_genres(rows) == 1
    assert "1 recordings have two genres: 'Jazz/0.wav' (Jazz) and 'Rock/other name.wav'" in (
        caplog.text
    )


def test_one_path_with_two_labels_is_listed(songs: Path) -> None:
    (songs / "manifest.csv").write_text("path,genre\nJazz/9.wav,Jazz\nJazz/9.wav,Rock\n")
    assert list_two_genres(with_contents(list_rows(songs, MEL))) == 1


def test_spellings_of_one_genre_are_not_two(songs: Path) -> None:
    (songs / "manifest.csv").write_text("path,genre\nJazz/9.wav,Hip Hop\nJazz/9.wav,hip-hop\n")
    assert list_two_genres(with_contents(list_rows(songs, MEL))) == 0


def test_labels_are_compared_after_unicode_normalisation() -> None:
    composed, decomposed = "Forr\u00f3", "Forro\u0301"
    labels = LabelSet([Label(name=composed), Label(name="Jazz")])
    assert labels.index(decomposed) == 0
    assert labels.index("\uff2a\uff41\uff5a\uff5a") == 1  # full-width letters
    with pytest.raises(ValueError, match="shares the name"):
        LabelSet([Label(name=composed), Label(name=decomposed)])


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("utf-8-sig", "Path,Genre\n{}"),
        ("utf-16", "PATH;GENRE\r\n{}"),
        ("utf-8", "path\tGenre\r{}"),
        ("utf-8", "File,GENRE,Split\n{}"),
    ],
)
def test_manifests_of_any_program_are_read(songs: Path, encoding: str, text: str) -> None:
    delimiter = next(each for each in ",;\t" if each in text)
    end = text.removesuffix("{}")[-1]
    cells = ["Jazz/9.wav", "Forro\u0301"] + (["train"] if "Split" in text else [])
    path = songs / "m.csv"
    path.write_bytes((text.format(delimiter.join(cells)) + end).encode(encoding))
    (row,) = list_rows(path, MEL)
    assert (row.file, row.genre) == ("Jazz/9.wav", "Forr\u00f3")
    assert row.split == ("train" if "Split" in text else "")


def test_a_missing_column_names_those_that_are_there(songs: Path) -> None:
    (songs / "m.csv").write_text("song,style\na,b\n")
    with pytest.raises(ConfigError, match="has no column path or file, but song, style"):
        list_rows(songs / "m.csv", MEL)
