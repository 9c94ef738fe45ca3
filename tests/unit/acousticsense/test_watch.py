"""A watched folder: complete files, once each, over restarts; tags; one process at a time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from acoustic.errors import ConfigError
from acoustic.prediction import Prediction
from acousticsense import Classifier
from acousticsense.tagging.files import read_genres
from acousticsense.watching import Results, Watch
from tests.support.answers import WAV
from tests.support.sounds import encode, noise, sweep

FLAC = encode(sweep(6.0), 22_050, "flac")


@pytest.fixture
def results(tmp_path: Path) -> Iterator[Results]:
    with closing(Results(tmp_path / "genres.jsonl")) as found:
        yield found


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    folder = tmp_path / "inbox"
    folder.mkdir()
    return folder


def names(watch: Watch) -> list[str]:
    return [answered.path.name for answered in watch.look()]


def test_a_file_is_taken_when_it_has_stopped_changing(
    inbox: Path, results: Results, classifier: Classifier
) -> None:
    watch = Watch(inbox, results, classifier)
    song = inbox / "deep" / "a.wav"
    song.parent.mkdir()
    song.write_bytes(WAV[:1000])
    assert names(watch) == []
    song.write_bytes(WAV[:5000])  # the copy goes on
    assert names(watch) == []
    song.write_bytes(WAV)
    assert names(watch) == []
    assert names(watch) == ["a.wav"]
    assert names(watch) == []
    (line,) = results.path.read_text().splitlines()
    row = json.loads(line)
    assert row["file"] == str(song)
    assert row["top_genre"] == classifier.classify(WAV).top_genre
    assert row["watched"]["size_bytes"] == len(WAV)


def test_a_restart_goes_on_and_a_changed_file_is_new(
    inbox: Path, tmp_path: Path, classifier: Classifier
) -> None:
    path = tmp_path / "genres.jsonl"
    (inbox / "a.wav").write_bytes(WAV)
    (inbox / "broken.mp3").write_bytes(b"no audio")
    with closing(Results(path)) as results:
        watch = Watch(inbox, results, classifier)
        watch_twice = [*watch.look(), *watch.look()]
    assert [isinstance(each.result, Prediction) for each in watch_twice] == [True, False]
    path.write_bytes(path.read_bytes() + b'{"file": "/cut o')  # the process died here
    (inbox / "a.wav").write_bytes(encode(noise(20.0), 22_050))
    os.utime(inbox / "a.wav", (1, 1))
    with closing(Results(path)) as results:
        watch = Watch(inbox, results, classifier)
        assert [names(watch), names(watch), names(watch)] == [[], ["a.wav"], []]
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [Path(row["file"]).name for row in rows] == ["a.wav", "broken.mp3", "a.wav"]
    assert rows[1]["error"]["code"] == "unsupported_audio"


def test_what_is_done_to_a_file_is_no_news(
    inbox: Path, results: Results, classifier: Classifier
) -> None:
    (inbox / "a.flac").write_bytes(FLAC)
    append = lambda answered: answered.path.write_bytes(FLAC + b"tag")  # noqa: E731
    watch = Watch(inbox, results, classifier, after=append)
    assert [names(watch), names(watch), names(watch), names(watch)] == [[], ["a.flac"], [], []]


def test_a_file_that_changes_while_it_is_heard_is_heard_again(
    inbox: Path, results: Results, classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    song = inbox / "a.flac"
    song.write_bytes(FLAC)
    many = classifier.classify_many

    def slow(inputs: Any, **options: Any) -> list[Any]:
        found = list(many(inputs, **options))
        if inputs:
            song.write_bytes(FLAC + b"more")
        return found

    watch = Watch(inbox, results, classifier)
    with monkeypatch.context() as patch:
        patch.setattr(classifier, "classify_many", slow)
        assert [names(watch), names(watch)] == [[], []]
    assert [names(watch), names(watch)] == [[], ["a.flac"]]


def test_only_one_process_writes_the_results(results: Results) -> None:
    with pytest.raises(ConfigError, match="in use by another"):
        Results(results.path)


@pytest.mark.parametrize(
    "content", ["file,genre\n", '{"file": "a"}\n', '{"a": 1}', "[1, 2]", "text", "3"]
)
def test_other_results_are_left_alone(tmp_path: Path, content: str) -> None:
    path = tmp_path / "other.jsonl"
    path.write_text(content)
    with pytest.raises(ConfigError, match="other lines"):
        Results(path)
    assert path.read_text() == content


def test_a_last_line_without_its_end_is_written_again(
    inbox: Path, tmp_path: Path, classifier: Classifier
) -> None:
    path = tmp_path / "genres.jsonl"
    (inbox / "a.wav").write_bytes(WAV)
    for _ in range(2):
        with closing(Results(path)) as results:
            watch = Watch(inbox, results, classifier)
            assert [names(watch), names(watch)] == [[], ["a.wav"]]
        assert len(path.read_text().splitlines()) == 1
        path.write_bytes(path.read_bytes()[:-1])


def test_a_folder_must_be_there(results: Results, classifier: Classifier, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not a folder"):
        Watch(tmp_path / "none", results, classifier)


def test_the_command_tags_and_ends_on_a_signal(
    inbox: Path, tmp_path: Path, tiny_checkpoint: Path
) -> None:
    (inbox / "a.flac").write_bytes(FLAC)
    out = tmp_path / "genres.jsonl"
    command = [
        sys.executable, "-m", "acousticsense", "watch", inbox, "--out", out, "--every", "0.1",
        "--tag", "--min-confidence", "0", "--model", tiny_checkpoint,
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        rest = process.stdout.read()
    assert process.returncode == 0
    assert line.startswith(str(inbox / "a.flac"))
    assert rest == ""
    (genre,) = read_genres(inbox / "a.flac")
    assert json.loads(out.read_text())["top_genre"] == genre
    (change,) = (tmp_path / "genres.jsonl.journal.jsonl").read_text().splitlines()
    assert json.loads(change)["new"] == [genre]
