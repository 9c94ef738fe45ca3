"""Folders of people: links, bad names, files of the system, names that are not audio."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from acoustic.file_walk import SUFFIXES, is_audio_name, printable, walk_files


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def names(folder: Path) -> list[str]:
    return [os.path.relpath(path, folder) for path in walk_files(folder).paths]


def test_files_are_sorted_and_others_counted(tmp_path: Path) -> None:
    touch(tmp_path / "b.MP3", tmp_path / "a" / "c.flac", tmp_path / "cover.jpg", tmp_path / "x")
    found = walk_files(tmp_path)
    assert names(tmp_path) == ["a/c.flac", "b.MP3"]
    assert found.n_skipped == 2


@pytest.mark.parametrize("target", [".", ".."])
def test_a_link_to_the_folder_or_its_parent_adds_nothing(tmp_path: Path, target: str) -> None:
    folder = tmp_path / "music"
    touch(folder / "a" / "song.mp3")
    (folder / "a" / "loop").symlink_to(folder if target == "." else tmp_path)
    assert names(folder) == ["a/song.mp3"]


def test_links_that_cross_add_each_file_once(tmp_path: Path) -> None:
    touch(tmp_path / "a" / "1.mp3", tmp_path / "b" / "2.mp3")
    (tmp_path / "a" / "to b").symlink_to(tmp_path / "b")
    (tmp_path / "b" / "to a").symlink_to(tmp_path / "a")
    assert names(tmp_path) == ["a/1.mp3", "b/2.mp3"]


def test_a_linked_album_is_followed_once(tmp_path: Path) -> None:
    touch(tmp_path / "elsewhere" / "1.mp3")
    music = tmp_path / "music"
    music.mkdir()
    (music / "album").symlink_to(tmp_path / "elsewhere")
    (music / "again").symlink_to(tmp_path / "elsewhere")
    assert names(music) == ["again/1.mp3"]


def test_a_linked_file_is_listed_once_and_under_its_own_name(tmp_path: Path) -> None:
    touch(tmp_path / "z.mp3", tmp_path / "other" / "far.mp3")
    music = tmp_path / "music"
    touch(music / "z.mp3")
    (music / "a.mp3").symlink_to(music / "z.mp3")
    (music / "far 1.mp3").symlink_to(tmp_path / "other" / "far.mp3")
    (music / "far 2.mp3").symlink_to(tmp_path / "other" / "far.mp3")
    assert names(music) == ["far 1.mp3", "z.mp3"]


def test_two_names_of_one_file_that_are_no_links_are_two(tmp_path: Path) -> None:
    touch(tmp_path / "a.mp3")
    os.link(tmp_path / "a.mp3", tmp_path / "b.mp3")
    assert names(tmp_path) == ["a.mp3", "b.mp3"]


def test_a_link_with_another_name_does_not_hide_one_with_a_name_of_audio(tmp_path: Path) -> None:
    touch(tmp_path / "out" / "1.wav")
    music = tmp_path / "music"
    music.mkdir()
    for name in ("latest", "one.wav"):
        (music / name).symlink_to(tmp_path / "out" / "1.wav")
    assert names(music) == ["one.wav"]


def test_links_to_pipes_and_devices_are_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "x.mp3").symlink_to(tmp_path / "pipe")
    (tmp_path / "y.mp3").symlink_to("/dev/zero")
    assert names(tmp_path) == []


def test_a_broken_link_is_listed_so_that_its_error_is_seen(tmp_path: Path) -> None:
    (tmp_path / "gone.mp3").symlink_to(tmp_path / "nowhere")
    (tmp_path / "self.mp3").symlink_to(tmp_path / "self.mp3")
    (tmp_path / "gone folder").symlink_to(tmp_path / "nowhere")
    assert names(tmp_path) == ["gone.mp3", "self.mp3"]


def test_a_folder_named_like_audio_is_a_folder(tmp_path: Path) -> None:
    touch(tmp_path / "live.mp3" / "1.flac")
    (tmp_path / "empty.wav").mkdir()
    assert names(tmp_path) == ["live.mp3/1.flac"]


def test_files_of_the_system_are_no_music(tmp_path: Path) -> None:
    touch(
        tmp_path / "x.wav", tmp_path / "._x.wav", tmp_path / "__MACOSX" / "y.wav",
        tmp_path / ".git" / "z.wav", tmp_path / ".hidden" / "mine.wav",
    )  # fmt: skip
    assert names(tmp_path) == [".hidden/mine.wav", "x.wav"]


def test_a_name_that_is_not_utf_8_is_listed_and_has_a_printable_form(tmp_path: Path) -> None:
    raw = os.fsencode(tmp_path) + b"/caf\xe9.mp3"
    with open(raw, "wb") as file:
        file.write(b"x")
    (path,) = walk_files(tmp_path).paths
    assert os.fsencode(path) == raw
    assert printable(path).endswith(r"caf\xe9.mp3")
    printable(path).encode()
    assert printable("naïve 🎵.mp3") == "naïve 🎵.mp3"


def test_all_files_can_be_wanted(tmp_path: Path) -> None:
    touch(tmp_path / "a.dat")
    assert walk_files(tmp_path, only_audio=False).paths == [str(tmp_path / "a.dat")]


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        walk_files(tmp_path / "nowhere")


def test_many_links_to_one_folder_cost_little(tmp_path: Path) -> None:
    touch(tmp_path / "real" / "1.mp3")
    for i in range(5_000):
        (tmp_path / f"link {i}").symlink_to(tmp_path / "real")
    assert names(tmp_path) == ["real/1.mp3"]


@pytest.mark.parametrize("name", ["a.m4b", "a.aifc", "a.mp2", "a.mka", "a.weba", "a.3gp", "a.MPGA"])
def test_suffixes_that_decode_are_audio(name: str) -> None:
    assert is_audio_name(name)
    assert not is_audio_name(f"._{name}")


def test_suffixes_are_lower_case_and_unique() -> None:
    assert len(set(SUFFIXES)) == len(SUFFIXES)
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in SUFFIXES)
