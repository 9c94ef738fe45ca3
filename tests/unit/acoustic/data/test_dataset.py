"""Data sets of every form, split by group; every fault is reported."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from acoustic.data.dataset import Dataset, labels_of, read_dataset
from acoustic.data.groups import without_repeats
from acoustic.data.outliers import _recording, read_outliers, side_of
from acoustic.errors import ConfigError
from acoustic.geometry import MelConfig
from acoustic.labels import GENRES
from tests.support.clips import write_manifest, write_song

N_FRAMES_OF_8_S = 1 + (8 * 22_050 - 2048) // 915


def read(*sources: Path, **options: object) -> Dataset:
    return read_dataset(sources, MelConfig(), **options)  # type: ignore[arg-type]


def row(i: int, genre: str, split: str = "", group: str = "") -> dict[str, str]:
    return {"file": f"{i}.wav", "genre": genre, "split": split, "group": group}


def folder_per_genre(root: Path, n: int = 10) -> Path:
    for genre in ("Jazz", "hiphop"):
        for i in range(n):
            write_song(root / genre / f"artist {i // 2}" / f"{genre}{i}.wav", i, 7.0)
    return root


def test_a_folder_per_genre_with_artists(tmp_path: Path) -> None:
    dataset = read(folder_per_genre(tmp_path / "songs"))
    assert dataset.labels.names == ("Jazz", "Hip-Hop")
    assert len(dataset.clips) == 20
    sides: dict[str, set[str]] = {}
    for clip in dataset.clips:
        sides.setdefault(clip.group, set()).add(clip.split)
    assert all(len(side) == 1 for side in sides.values())
    assert 2 <= len(dataset.split("valid")) <= 6


def test_the_draw_depends_on_the_seed_only(tmp_path: Path) -> None:
    songs = folder_per_genre(tmp_path / "songs")
    drawn = [tuple(c.split for c in read(songs, seed=seed).clips) for seed in (1, 1, 2, 3, 4)]
    assert drawn[0] == drawn[1]
    assert len(set(drawn)) > 1


def test_without_groups_it_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for genre in ("Jazz", "Folk"):
        for i in range(5):
            write_song(tmp_path / genre / f"{i}.wav", i, 7.0)
    read(tmp_path)
    assert "no groups" in caplog.text


def test_a_manifest_states_genre_and_split(tmp_path: Path) -> None:
    write_manifest(tmp_path, [row(0, "jazz", "train", "a"), row(1, "hiphop", "valid", "b")])
    found = read(tmp_path, labels=GENRES).clips
    assert [(GENRES.names[c.label], c.split) for c in found] == [
        ("Jazz", "train"),
        ("Hip-Hop", "valid"),
    ]
    assert found[0].log_mel.shape == (128, N_FRAMES_OF_8_S)


def test_parquet_is_csv(tmp_path: Path) -> None:
    rows = [row(0, "Jazz", "train", "a"), row(1, "Folk", "valid", "b")]
    csv_path = write_manifest(tmp_path, rows)
    parquet_path = tmp_path / "songs.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), parquet_path)
    for a, b in zip(read(csv_path).clips, read(parquet_path).clips, strict=True):
        assert (a.label, a.split) == (b.label, b.split)
        assert np.array_equal(a.log_mel, b.log_mel)


def mel_pack(folder: Path, rows: list[str], n_mels: int = 128) -> Path:
    folder.mkdir()
    (folder / "manifest.csv").write_text("\n".join(["index,clip,genre,split,artist_group", *rows]))
    spectrograms = np.random.default_rng(0).integers(0, 256, (len(rows), n_mels, 200))
    np.savez(folder / "mel_u8.npz", X=spectrograms.astype(np.uint8))
    return folder


def test_a_mel_pack_is_read_as_it_is(tmp_path: Path) -> None:
    pack = mel_pack(tmp_path / "pack", ["0,a,Jazz,train,1", "1,b,Folk,valid,2"])
    first, second = read(pack).clips
    assert first.log_mel.shape == (128, 200)
    assert (first.track, first.path, second.group) == ("a", None, "pack:2")


def test_a_recording_counts_once_across_data_sets(tmp_path: Path) -> None:
    pack = mel_pack(tmp_path / "pack", ["0,a,Jazz,valid,1", "1,b,Folk,train,2"])
    rows = [
        {**row(0, "Jazz", "valid", "x"), "track": "a"},
        {**row(1, "Jazz", "valid", "y"), "track": ""},
    ]
    write_manifest(tmp_path / "audio", rows)
    valid = read(pack, tmp_path / "audio").split("valid")
    assert len(valid) == 3
    assert [c.source for c in without_repeats(valid)] == ["pack", "audio"]


def test_a_recording_on_both_sides_is_refused(tmp_path: Path) -> None:
    pack = mel_pack(tmp_path / "pack", ["0,a,Jazz,train,1", "1,b,Folk,train,2"])
    write_manifest(tmp_path / "audio", [{**row(0, "Jazz", "valid", "x"), "track": "a"}])
    with pytest.raises(ConfigError, match="'track a' is in two splits"):
        read(pack, tmp_path / "audio")


def test_what_cannot_be_read_is_listed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [
        row(i, genre, "train", str(i)) for i, genre in enumerate(("Jazz", "Folk", "Jazz", "Folk"))
    ]
    write_manifest(tmp_path, rows)
    (tmp_path / "0.wav").write_bytes(b"not audio")
    write_song(tmp_path / "1.wav", 1, duration_s=3.0)
    dataset = read(tmp_path)
    assert [(each.file, each.code) for each in dataset.skipped] == [
        ("0.wav", "unsupported_audio"),
        ("1.wav", "audio_too_short"),
    ]
    assert "skipped file=0.wav code=unsupported_audio" in caplog.text
    (tmp_path / "2.wav").unlink()
    (tmp_path / "0.wav").unlink()
    with pytest.raises(ConfigError, match="no usable recording of Jazz"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([row(0, "Jazz", "train", "a"), row(1, "Jazz", "valid", "a")], "'a' is in two splits"),
        ([row(i, "Polka", "train", "a") for i in (0, 1)], r"16 labels: 'Polka' \(2 files\)"),
        ([row(0, "Jazz", "test", "a")], "split is 'test', known are train and valid"),
        ([row(0, "Jazz"), row(1, "Folk")], "in 2 groups cannot be split 5 ways"),
    ],
)  # fmt: skip
def test_bad_data_is_refused(tmp_path: Path, rows: list[dict[str, str]], message: str) -> None:
    write_manifest(tmp_path, rows)
    with pytest.raises(ConfigError, match=message):
        read(tmp_path, labels=GENRES)


def test_one_genre_is_no_data_set(tmp_path: Path) -> None:
    write_manifest(tmp_path, [row(0, "Jazz", "train", "a")])
    with pytest.raises(ConfigError, match="two labels or more, got 1"):
        read(tmp_path)


def test_an_empty_genre_is_refused(tmp_path: Path) -> None:
    write_song(tmp_path / "Jazz" / "a.wav", 0)
    (tmp_path / "Folk").mkdir()
    with pytest.raises(ConfigError, match="genre 'Folk' has no audio file"):
        read(tmp_path)


def test_sources_of_no_known_form(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        read(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="no folder per genre"):
        read(tmp_path)
    (tmp_path / "songs.csv").write_text("name,genre\na,Jazz\n")
    with pytest.raises(ConfigError, match="no column path or file"):
        read(tmp_path / "songs.csv")
    (tmp_path / "songs.parquet").write_bytes(b"no parquet")
    with pytest.raises(ConfigError, match="cannot be read as Parquet"):
        read(tmp_path / "songs.parquet")
    pack = mel_pack(tmp_path / "pack", ["0,a,Jazz,train,1"], n_mels=64)
    with pytest.raises(ConfigError, match="64 mel bands, the model needs 128"):
        read(pack)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"Y": np.zeros((1, 128, 200), np.uint8)}, "mel_u8.npz of pack cannot be read"),
        ({"X": np.zeros((1, 128, 200))}, "X of pack is float64 with 3 axes, not uint8"),
        ({"X": np.zeros((1, 128, 90), np.uint8)}, "has 90 frames, a window needs 144"),
        ({"X": np.zeros((0, 128, 200), np.uint8)}, "index '0' is not in the pack"),
    ],
)
def test_a_mel_pack_that_is_none(
    tmp_path: Path, arrays: dict[str, np.ndarray], message: str
) -> None:
    pack = mel_pack(tmp_path / "pack", ["0,a,Jazz,train,1"])
    np.savez(pack / "mel_u8.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=message):
        read(pack)
    (pack / "mel_u8.npz").write_bytes(b"no archive")
    with pytest.raises(ConfigError, match="cannot be read"):
        read(pack)


def test_labels_follow_the_guides_order_then_the_alphabet() -> None:
    assert labels_of({"Zouk", "rock", "Blues", "Ambient"}).names == (
        "Blues", "Rock", "Ambient", "Zouk",
    )  # fmt: skip


def files_of(folder: Path, split: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    found: list[str] = []

    def note(path: Path, kind: str, *rest: object) -> object:
        found.append(path.name)
        return object()

    monkeypatch.setattr("acoustic.data.outliers._read", note)
    read_outliers(folder, MelConfig(), split)
    return found


def test_cuts_of_one_recording_are_on_the_same_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuts = ["1-172649-A.ogg", "1-172649-F.wav", "rain-B-12.wav", "rain.wav"]
    names = [*cuts, *(f"{i:03d}.wav" for i in range(40))]
    for name in names:
        write_song(tmp_path / name, 0, duration_s=1.0)
    halves = [files_of(tmp_path, split, monkeypatch) for split in ("train", "valid")]
    assert sorted(halves[0] + halves[1]) == sorted(names)
    for half in halves:
        assert (cuts[0] in half) == (cuts[1] in half)
        assert (cuts[2] in half) == (cuts[3] in half)
        assert len(half) > 8  # a number at the end of a name is not a cut


def test_takes_of_a_stated_original_are_on_the_same_side() -> None:
    names = ("news1.wav", "news2.wav", "1-77-A.ogg", "100032", "1-100032")
    columns = [{"path": f"{name}.ogg", "original": name} for name in names]
    assert [_recording(each) for each in columns] == ["news", "news", "1-77", *names[3:]]
    assert {side_of(name) for name in "abcdefgh"} == {"train", "valid"}


def test_outliers_come_in_halves_and_fill_a_window(tmp_path: Path) -> None:
    names = [f"{chr(97 + i)}.wav" for i in range(8)]
    for i, name in enumerate(names):
        write_song(tmp_path / "speech" / name, i, duration_s=2.0)
    (tmp_path / "speech" / "zz.wav").write_bytes(b"broken")
    halves = [read_outliers(tmp_path, MelConfig(), split) for split in ("train", "valid")]
    assert sum(len(half) for half in halves) == 8
    assert all(o.log_mel.shape == (128, 144) and o.kind == "speech" for h in halves for o in h)
    with pytest.raises(ConfigError, match="does not exist"):
        read_outliers(tmp_path / "nowhere", MelConfig(), "train")


def test_two_songs_of_one_name_are_two_songs(tmp_path: Path) -> None:
    rows = [
        {**row(0, "Jazz", "train"), "file": "a/01.wav"},
        {**row(1, "Folk", "valid"), "file": "b/01.wav"},
    ]
    write_song(tmp_path / "a" / "01.wav", 0)
    write_song(tmp_path / "b" / "01.wav", 1)
    write_manifest(tmp_path, rows)
    assert {clip.group.split(":")[1] for clip in read(tmp_path).clips} == {"a/01.wav", "b/01.wav"}


def test_a_row_without_a_genre_is_refused(tmp_path: Path) -> None:
    write_manifest(tmp_path, [row(0, "Jazz"), row(1, "")])
    with pytest.raises(ConfigError, match=r"row 2 of manifest\.csv has no genre"):
        read(tmp_path)


def test_a_table_saved_by_a_spreadsheet_has_a_mark_in_front(tmp_path: Path) -> None:
    path = write_manifest(tmp_path, [row(0, "Jazz", "train", "a"), row(1, "Folk", "valid", "b")])
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(read(tmp_path).clips) == 2


def test_a_named_artist_is_the_same_in_two_data_sets(tmp_path: Path) -> None:
    for folder, split, group in (("a", "train", "Miles"), ("b", "valid", "Miles")):
        write_manifest(
            tmp_path / folder, [row(0, "Jazz", split, group), row(1, "Folk", split, "7")]
        )
    with pytest.raises(ConfigError, match="'Miles' is in two splits"):
        read(tmp_path / "a", tmp_path / "b")
    write_manifest(tmp_path / "b", [row(0, "Jazz", "valid", "Chet"), row(1, "Folk", "valid", "7")])
    assert len(read(tmp_path / "a", tmp_path / "b").clips) == 4  # a number is not an artist's name
