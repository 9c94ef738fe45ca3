"""Data set formats: tables cell by cell, the middle of long files, rows without decoding."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from acoustic.data import sources
from acoustic.data.manifest import COLUMNS, read_table
from acoustic.data.sources import list_rows, read_log_mel, read_waveform
from acoustic.errors import AudioTooShortError, ConfigError
from acoustic.geometry import MelConfig
from acoustic.preprocess.mel import MelSpectrogram
from tests.support.properties import quick
from tests.support.sounds import encode, noise, tone

MEL = MelConfig(n_mels=16, n_frames=20)
cells = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), max_size=8)


def table(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_every_accepted_name_of_a_column_is_read(tmp_path: Path) -> None:
    for column, names in COLUMNS.items():
        for name in names:
            (found,) = read_table(table(tmp_path / "t.csv", f"{name},other\n v ,x\n"), ())
            assert found[column] == "v"
            assert set(found) == set(COLUMNS)


def test_a_short_row_has_empty_cells_and_a_long_one_is_refused(tmp_path: Path) -> None:
    long = table(tmp_path / "long.csv", "path,genre\nb.wav,Folk,surplus\n")
    with pytest.raises(ConfigError, match="line 2 has 3 cells, but there are 2 columns"):
        read_table(long, ("path", "genre"))
    path = table(tmp_path / "t.csv", "path,genre,group\na.wav,Jazz\nb.wav,Folk,g\n")
    first, second = read_table(path, ("path", "genre"))
    assert (first["group"], second["group"]) == ("", "g")
    with pytest.raises(ConfigError, match=r"row 1 of t\.csv has no group"):
        read_table(path, ("group",))


@quick
@given(rows=st.lists(st.tuples(cells, cells), min_size=1, max_size=5))
def test_parquet_and_csv_of_the_same_rows_are_the_same(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]
) -> None:
    folder = tmp_path_factory.getbasetemp()
    quoted = ['"{}","{}"'.format(*(c.replace('"', '""') for c in row)) for row in rows]
    csv_path = table(folder / "rows.csv", "\n".join(["path,genre", *quoted]) + "\n")
    columns = [{"path": a, "genre": b or None} for a, b in rows]
    parquet_path = folder / "rows.parquet"
    schema = pyarrow.schema([("path", pyarrow.string()), ("genre", pyarrow.string())])
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(columns, schema), parquet_path)
    assert read_table(csv_path, ()) == read_table(parquet_path, ())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no line with the names of columns"),
        (b"path,genre\n", "has no rows"),
        (b"path,genre\n\xff\xfe,Jazz\n", "cannot be read as CSV"),
        (b"path,kind\na.wav,x\n", "has no column genre"),
        (b"path,genre\na.wav,Jazz\nb.wav, \n", r"row 2 of t\.csv has no genre"),
    ],
)
def test_a_table_that_cannot_be_used_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        read_table(path, ("path", "genre"))


def test_the_middle_of_a_long_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "MAX_CLIP_S", 2.0)
    parts = [tone(hz, 1.5, 8_000) for hz in (300, 600, 1200, 2400)]
    path = tmp_path / "a.wav"
    path.write_bytes(encode(np.concatenate(parts), 8_000))
    found = read_waveform(path, 8_000)
    expected = np.concatenate(parts)[2 * 8_000 : 4 * 8_000]
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_file_shorter_than_a_window_states_both_lengths(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(encode(noise(0.5), 22_050))
    with pytest.raises(AudioTooShortError, match=r"0\.50 s, shorter than one window of 0\.88 s"):
        read_log_mel(path, MelSpectrogram(MEL), MEL)
    path.write_bytes(encode(noise(MEL.window_s + 0.01), 22_050))
    assert read_log_mel(path, MelSpectrogram(MEL), MEL).shape == (16, 20)


def test_rows_are_listed_without_decoding(tmp_path: Path) -> None:
    for name in ("Jazz/Nina/b.wav", "Jazz/a.wav", "Folk/c.wav"):
        path = tmp_path / "songs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"not audio")
    rows = list_rows(tmp_path / "songs", MEL)
    assert [(row.file, row.genre, row.group) for row in rows] == [
        ("Folk/c.wav", "Folk", ""),
        ("Jazz/Nina/b.wav", "Jazz", "Nina"),
        ("Jazz/a.wav", "Jazz", ""),
    ]
    assert {row.source for row in rows} == {"songs"}


def test_each_row_of_a_pack_reads_its_own_spectrogram(tmp_path: Path) -> None:
    spectrograms = np.arange(3, dtype=np.uint8)[:, None, None] * np.ones((1, 16, 25), np.uint8)
    np.savez(tmp_path / "mel_u8.npz", X=spectrograms)
    table(tmp_path / "manifest.csv", "index,genre\n2,Jazz\n0,Folk\n1,Jazz\n")
    assert [int(row.read()[0, 0]) for row in list_rows(tmp_path, MEL)] == [2, 0, 1]


@pytest.mark.parametrize("index", ["3", "-1", "1.0", "x"])
def test_an_index_outside_the_pack_is_refused(tmp_path: Path, index: str) -> None:
    np.savez(tmp_path / "mel_u8.npz", X=np.zeros((3, 16, 25), np.uint8))
    table(tmp_path / "manifest.csv", f"index,genre\n{index},Jazz\n")
    with pytest.raises(ConfigError, match=rf"index '{index}' is not in the pack, which has 3"):
        list_rows(tmp_path, MEL)
