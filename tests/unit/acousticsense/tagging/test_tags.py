"""Genres in files: readable by another program, audio untouched, journal and undo, policy."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import av
import mutagen
import numpy as np
import pytest
import soundfile as sf
from mutagen.id3 import ID3, TCON, TIT2
from typer.testing import CliRunner

from acoustic.errors import FileUnreadableError
from acoustic.preprocess.decode import open_audio
from acoustic.types import Segment
from acousticsense.cli.main import app
from acousticsense.tagging.files import read_genres, write_genres
from acousticsense.tagging.journal import Journal, read_journal, undo
from acousticsense.tagging.policy import Evidence, Policy
from tests.support.sounds import sweep

RATE = 48_000
SOUND = (0.5 * sweep(2.0, RATE)).astype(np.float32)
LIBSNDFILE = {
    "mp3": ("MP3", "MPEG_LAYER_III"), "flac": ("FLAC", "PCM_16"), "ogg": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"), "wav": ("WAV", "PCM_16"), "aiff": ("AIFF", "PCM_16"),
}  # fmt: skip
KINDS = (*LIBSNDFILE, "m4a")


def m4a() -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format="ipod") as container:
        stream = container.add_stream("aac", rate=RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray(SOUND[None], format="fltp", layout="mono")
        frame.sample_rate = RATE
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    return file.getvalue()


@pytest.fixture(scope="module")
def contents() -> dict[str, bytes]:
    found = {"m4a": m4a()}
    for kind, (container, subtype) in LIBSNDFILE.items():
        file = io.BytesIO()
        sf.write(file, SOUND, RATE, format=container, subtype=subtype)
        found[kind] = file.getvalue()
    return found


@pytest.fixture
def song(request: pytest.FixtureRequest, contents: dict[str, bytes], tmp_path: Path) -> Path:
    path = tmp_path / f"song.{request.param}"
    path.write_bytes(contents[request.param])
    return path


each_kind = pytest.mark.parametrize("song", KINDS, indirect=True)


def samples(path: Path) -> np.ndarray:
    return open_audio(path.read_bytes()).read(Segment(start_s=0.0, end_s=9.0)).samples


def seen_by_ffmpeg(path: Path) -> str:
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        return str(container.metadata.get("genre") or stream.metadata.get("genre", ""))


@each_kind
def test_another_program_reads_the_genre_and_the_audio_is_the_same(song: Path) -> None:
    before = samples(song)
    assert read_genres(song) == ()
    write_genres(song, ["Folk"])
    assert read_genres(song) == ("Folk",)
    assert seen_by_ffmpeg(song) == "Folk"
    np.testing.assert_array_equal(samples(song), before)
    write_genres(song, ["Jazz", "Rhythm & Blues"])
    assert read_genres(song) == ("Jazz", "Rhythm & Blues")
    write_genres(song, [])
    assert read_genres(song) == ()
    assert seen_by_ffmpeg(song) == ""
    np.testing.assert_array_equal(samples(song), before)
    assert [path.name for path in song.parent.iterdir()] == [song.name], "nothing is left behind"


@pytest.mark.parametrize("song", ["mp3"], indirect=True)
@pytest.mark.parametrize("version", [3, 4])
def test_the_version_of_an_id3_tag_and_its_other_frames_stay(song: Path, version: int) -> None:
    tags = ID3()
    tags.add(TIT2(encoding=1, text="Élégie"))
    tags.add(TCON(encoding=1, text="(17)"))  # a number of the old list
    tags.save(song, v2_version=version)
    assert read_genres(song) == ("Rock",)
    write_genres(song, ["Folk"])
    found = ID3(song)
    assert found.version[:2] == (2, version)
    assert found["TIT2"].text == ["Élégie"]
    assert read_genres(song) == ("Folk",)


@pytest.mark.parametrize("song", ["flac"], indirect=True)
def test_mode_and_link_stay(song: Path) -> None:
    song.chmod(0o640)
    link = song.with_name("link.flac")
    link.symlink_to(song)
    write_genres(link, ["Folk"])
    assert link.is_symlink()
    assert read_genres(song) == ("Folk",)
    assert song.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("content", [b"", b"text", b"ID3", b"fLaC" + bytes(9), b"RIFF"])
def test_a_file_without_a_known_form_is_an_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.mp3"
    path.write_bytes(content)
    for work in (lambda: read_genres(path), lambda: write_genres(path, ["Folk"])):
        with pytest.raises(FileUnreadableError):
            work()
    assert path.read_bytes() == content


@each_kind
def test_undo_puts_back_what_was_there(song: Path, tmp_path: Path) -> None:
    write_genres(song, ["Polka"])
    journal = Journal(tmp_path / "journal.jsonl")
    journal.apply(song, ["Folk"])
    journal.apply(song, ["Jazz"])
    changes = read_journal(journal.path)
    assert [(each.old, each.new) for each in changes] == [
        (("Polka",), ("Folk",)), (("Folk",), ("Jazz",)),
    ]  # fmt: skip
    assert [undo(each) for each in reversed(changes)] == ["", ""]
    assert read_genres(song) == ("Polka",)


@pytest.mark.parametrize("name", ["a\u2028b.flac", "c\x85d.flac", "e\nf.flac", b"\xff.flac"])
def test_a_name_with_any_character_is_taken_back(
    name: str | bytes, contents: dict[str, bytes], tmp_path: Path
) -> None:
    path = tmp_path / (os.fsdecode(name))
    path.write_bytes(contents["flac"])
    journal = Journal(tmp_path / "journal.jsonl")
    journal.apply(path, ["Folk"])
    (change,) = read_journal(journal.path)
    assert undo(change) == ""
    assert read_genres(path) == ()


@pytest.mark.parametrize("song", ["ogg"], indirect=True)
def test_undo_leaves_what_somebody_else_wrote(song: Path, tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    journal.apply(song, ["Folk"])
    write_genres(song, ["Mine"])
    (change,) = read_journal(journal.path)
    assert undo(change) == "changed since: Mine"
    song.unlink()
    assert "cannot be read" in undo(change)


@pytest.mark.parametrize("song", ["flac", "mp3"], indirect=True)
def test_a_crash_before_the_change_leaves_the_file_and_a_journal_that_can_be_used(
    song: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content, journal = song.read_bytes(), Journal(tmp_path / "journal.jsonl")

    def crash(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", crash)
        with pytest.raises(KeyboardInterrupt):
            journal.apply(song, ["Folk"])
    assert song.read_bytes() == content
    journal.path.write_bytes(journal.path.read_bytes() + b'{"file": "/cut o')
    journal.apply(song, ["Folk"])
    first, second = read_journal(journal.path)
    assert undo(second) == ""
    assert undo(first) == "not changed"
    assert read_genres(song) == ()


SURE = Evidence(ranked=[("Folk", 0.8), ("Jazz", 0.1)], set=["Folk"], reasons=[])
UNSURE = Evidence(ranked=[("Folk", 0.4), ("Jazz", 0.3)], set=["Folk", "Jazz"], reasons=["LOW"])
NOISE = Evidence(ranked=[("Folk", 0.9)], set=["Folk"], reasons=["NOT_MUSIC"])


@pytest.mark.parametrize(
    ("policy", "evidence", "old", "expected"),
    [
        (Policy(), SURE, (), (("Folk",), "")),
        (Policy(), SURE, ("Rock",), (("Folk",), "")),
        (Policy(), SURE, ("Folk",), ((), "has it already")),
        (Policy(keep_existing=True), SURE, ("Rock",), ((), "has a genre")),
        (Policy(min_confidence=0.9), SURE, (), ((), "unsure: Folk 80%")),
        (Policy(), UNSURE, (), ((), "unsure: Folk 40%")),
        (Policy(set_size=2), UNSURE, (), (("Folk", "Jazz"), "")),
        (Policy(set_size=2, max_tags=1), UNSURE, (), (("Folk",), "")),
        (Policy(set_size=1), UNSURE, (), ((), "unsure: Folk 40%")),
        (Policy(min_confidence=0.0), NOISE, (), ((), "not music")),
    ],
)
def test_the_policy(
    policy: Policy, evidence: Evidence, old: tuple[str, ...], expected: Any
) -> None:
    assert policy.decide(evidence, old) == expected


def run(*arguments: object) -> tuple[int, list[list[str]], str]:
    result = CliRunner().invoke(app, ["tag", *map(str, arguments)])
    rows = [line.split("\t") for line in result.stdout.splitlines()]
    return result.exit_code, rows, result.stderr


@pytest.fixture
def library(tmp_path: Path, contents: dict[str, bytes]) -> Path:
    folder = tmp_path / "music"
    folder.mkdir()
    for kind in ("mp3", "flac"):
        (folder / f"a.{kind}").write_bytes(contents[kind])
    (folder / "broken.mp3").write_bytes(b"no audio")
    return folder


def test_the_command_shows_first_then_writes_and_takes_back(
    library: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    before = {path.name: path.read_bytes() for path in library.iterdir()}
    options = ["--model", tiny_checkpoint, "--min-confidence", "0"]
    code, shown, said = run(library, *options)
    assert code == 1, "one file is broken"
    assert shown[0] == ["file", "old", "new", "note"]
    new = {Path(row[0]).name: row[2] for row in shown[1:]}
    assert new["a.mp3"]
    assert new["broken.mp3"] == ""
    assert "nothing was changed: add --write" in said
    assert {path.name: path.read_bytes() for path in library.iterdir()} == before

    journal = tmp_path / "journal.jsonl"
    _, written, said = run(library, *options, "--write", "--journal", journal)
    assert written == shown
    assert f"2 files changed; take it back with: acousticsense tag --undo {journal}" in said
    assert read_genres(library / "a.flac") == (new["a.flac"],)
    _, rows, _ = run(library, *options, "--write", "--journal", journal)
    assert [row[3] for row in rows[1:3]] == ["has it already"] * 2

    code, rows, said = run("--undo", journal)
    assert code == 0
    assert "2 of 2 changes taken back" in said
    assert read_genres(library / "a.flac") == ()
    assert mutagen.File(library / "a.mp3").info.length > 1


KILLED = """
import os, sys
from pathlib import Path
from acousticsense.tagging.journal import Journal
journal = Journal(Path(sys.argv[1]))
print("begun", flush=True)
while True:
    for genre in ("Folk", "Jazz"):
        for song in sys.argv[2:]:
            journal.apply(Path(song), [genre])
"""


def test_kill_9_in_the_middle_damages_no_file_and_leaves_a_journal_that_can_be_used(
    contents: dict[str, bytes], tmp_path: Path
) -> None:
    songs = [tmp_path / f"song.{kind}" for kind in KINDS]
    for song, kind in zip(songs, KINDS, strict=True):
        song.write_bytes(contents[kind])
    before = [samples(song) for song in songs]
    journal = tmp_path / "journal.jsonl"
    command = [sys.executable, "-c", KILLED, str(journal), *map(str, songs)]
    for n_kills in range(1, 6):
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            pause = threading.Event()
            while not journal.exists() or len(read_journal(journal)) < 17 * n_kills:
                assert process.poll() is None
                pause.wait(0.002)
            process.kill()
    for song, expected in zip(songs, before, strict=True):
        assert len(read_genres(song)) <= 1
        np.testing.assert_array_equal(samples(song), expected)
    for change in reversed(read_journal(journal)):
        assert undo(change) in ("", "not changed")
    assert [read_genres(song) for song in songs] == [()] * len(songs)


def test_sidecars_leave_the_files_alone(library: Path, tiny_checkpoint: Path) -> None:
    before = (library / "a.mp3").read_bytes()
    run(library, "--model", tiny_checkpoint, "--sidecar", "--write")
    body = json.loads((library / "a.mp3.genre.json").read_text())
    assert body["top_genre"]
    assert (library / "a.mp3").read_bytes() == before


def test_stored_answers_are_written_without_the_model(library: Path, tmp_path: Path) -> None:
    answer = {
        "file": str(library / "a.mp3"),
        "predictions": [{"genre": "Folk", "probability": 0.9}],
        "prediction_set": {"genres": ["Folk"]},
        "reasons": [],
    }
    failed = {"file": str(library / "broken.mp3"), "error": {"code": "x", "message": "no audio"}}
    results = tmp_path / "answers.jsonl"
    results.write_text("".join(json.dumps(row) + "\n" for row in (answer, failed)))
    code, rows, _ = run("--from", results, "--write", "--journal", tmp_path / "j.jsonl")
    assert code == 1
    assert rows[1] == [str(library / "a.mp3"), "", "Folk", ""]
    assert rows[2][3] == "no audio"
    assert read_genres(library / "a.mp3") == ("Folk",)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name files and folders"),
        (["a.mp3", "--from", "b.jsonl"], "name files and folders"),
        (["a.mp3", "--min-confidence", "2"], "--min-confidence is 2, limits are 0 to 1"),
        (["--from", "none.jsonl"], "none.jsonl cannot be read"),
        (["--undo", "none.jsonl"], "none.jsonl cannot be read"),
    ],
)
def test_mistakes_are_one_sentence(arguments: list[str], message: str) -> None:
    code, _, said = run(*arguments)
    assert code == 2
    assert message in said
