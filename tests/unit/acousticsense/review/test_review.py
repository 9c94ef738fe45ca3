"""From stored answers to a queue, and from a person's answers to a manifest."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

from acoustic.data.sources import list_rows
from acoustic.errors import ConfigError
from acoustic.geometry import MelConfig
from acoustic.labels import Label, LabelSet
from acousticsense.cli.main import app
from acousticsense.results import read_answers, read_flat
from acousticsense.review.corrections import merge, read_corrections, write_manifest
from acousticsense.review.queue import to_review

LABELS = LabelSet(
    [Label(name="Jazz"), Label(name="Hip-Hop", aliases=("hiphop",)), Label(name="R&B")]
)


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(each) for each in arguments])
    return result.exit_code, result.stderr


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(params=["jsonl", "csv", "parquet"])
def results(
    request: pytest.FixtureRequest, music: Path, tiny_model: None, monkeypatch: pytest.MonkeyPatch
) -> Path:
    monkeypatch.chdir(music)
    out = music.parent / f"answers.{request.param}"
    code, _ = run("classify", ".", "--out", out)
    assert code == 1, "one file is broken"
    return out


def test_every_format_of_answers_gives_the_same_queue(results: Path, tmp_path: Path) -> None:
    code, said = run("review", results, "--out", tmp_path / "queue", "--all")
    assert code == 0
    assert "2 answers to look at" in said
    rows = table(tmp_path / "queue" / "review.csv")
    assert {row["file"].removeprefix("./") for row in rows} == {"a.wav", "b.flac"}
    assert [row["confidence"] for row in rows] == sorted(row["confidence"] for row in rows)
    assert all(row["genre"] == "" and row["answer"] for row in rows)
    tasks = json.loads((tmp_path / "queue" / "label_studio.json").read_text())
    assert [task["data"]["file"] for task in tasks] == [row["file"] for row in rows]
    assert {task["data"]["audio"] for task in tasks} == {
        "/data/local-files/?d=a.wav", "/data/local-files/?d=b.flac",
    }  # fmt: skip
    view = ElementTree.parse(tmp_path / "queue" / "label_studio.xml")
    choices = [each.attrib["value"] for each in view.iter("Choice")]
    for task in tasks:
        (prediction,) = task["predictions"]
        assert prediction["result"][0]["value"]["choices"][0] in choices
    code, said = run("review", results, "--out", tmp_path / "queue")
    assert code == 2
    assert "holds a queue already" in said


def rows_of(*confidences: tuple[float, bool]) -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"{i}.mp3", {"top_genre": "Jazz", "confidence": c, "needs_review": str(flag).lower()})
        for i, (c, flag) in enumerate(confidences)
    ]


def test_the_least_sure_comes_first_and_the_sure_stay_out() -> None:
    rows = rows_of((0.5, True), (0.99, False), (0.2, True), (0.7, True))
    assert [item.file for item in to_review(rows)] == ["2.mp3", "0.mp3", "3.mp3"]
    assert [item.file for item in to_review(rows, limit=1)] == ["2.mp3"]
    assert len(to_review(rows, everything=True)) == 4


def annotated(file: str, *genres: str, cancelled: bool = False) -> dict[str, Any]:
    results = [
        {"from_name": "genre", "type": "choices", "value": {"choices": [genre]}} for genre in genres
    ]
    annotations = [{"result": [each], "was_cancelled": cancelled} for each in results]
    return {"id": 1, "data": {"audio": "x", "file": file}, "annotations": annotations}


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.csv", "file,answer,genre\na.mp3,Rock,Jazz\nb.mp3,Rock,\n", [("a.mp3", "Jazz")]),
        ("a.csv", 'path;genre\r\n"a;b.mp3";R&B\r\n', [("a;b.mp3", "R&B")]),
        (
            "a.json",
            [annotated("a.mp3", "Rock", "Jazz"), annotated("b.mp3"),
             annotated("c.mp3", "Jazz", cancelled=True)],
            [("a.mp3", "Jazz")],
        ),
        (
            "a.json",
            [{"file": "a.mp3", "genre": "Jazz"}, {"file": "b.mp3"}],
            [("a.mp3", "Jazz")],
        ),
    ],
)  # fmt: skip
def test_answers_of_people_in_every_form(
    tmp_path: Path, name: str, content: Any, expected: list[tuple[str, str]]
) -> None:
    path = tmp_path / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    assert list(read_corrections(path)) == expected


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.csv", "name,genre\na,b\n"), ("a.json", "{"), ("a.json", '["x"]'), ("a.csv", "")],
)
def test_another_file_is_one_error(tmp_path: Path, name: str, content: str) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(ConfigError, match="a\\."):
        list(read_corrections(path))


@pytest.fixture
def library(tmp_path: Path) -> Path:
    root = tmp_path / "music"
    for name in ("Album A/one.mp3", "Album A/two.mp3", "three.mp3"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    return root


def test_answers_become_rows_that_training_reads(library: Path, tmp_path: Path) -> None:
    out = tmp_path / "manifests" / "manifest.csv"
    answers = [
        ("Album A/one.mp3", "jazz"), ("./three.mp3", "HipHop"), ("gone.mp3", "Jazz"),
        ("Album A/two.mp3", "Polka"), ("Album A/one.mp3", "R&B"),
    ]  # fmt: skip
    merged = merge(out, answers, LABELS, library)
    assert [problem.split()[0].rstrip(":") for problem in merged.problems] == ["gone.mp3", "Album"]
    assert "the model has no genre 'Polka'" in merged.problems[1]
    write_manifest(out, merged)
    rows = list_rows(out, MelConfig())
    found = {(row.path.name if row.path else "", row.genre, row.group) for row in rows}
    assert found == {("one.mp3", "R&B", "Album A"), ("three.mp3", "Hip-Hop", "")}
    held_out = merge(tmp_path / "other.csv", answers, LABELS, library, "valid")
    assert {row["split"] for row in held_out.rows} == {"valid"}


def test_a_manifest_keeps_what_it_holds(library: Path) -> None:
    out = library / "manifest.csv"
    out.write_text(
        "path,genre,split,note\nAlbum A/one.mp3,Jazz,valid,mine\nother.mp3,Jazz,train,\n"
    )
    answers = [("Album A/one.mp3", "R&B"), ("three.mp3", "Jazz")]
    merged = merge(out, answers, LABELS, library)
    assert (merged.n_new, merged.n_changed) == (1, 1)
    write_manifest(out, merged)
    first, second, third = table(out)
    assert first == {
        "path": "Album A/one.mp3", "genre": "R&B", "split": "valid", "note": "mine", "group": "",
    }  # fmt: skip
    assert second["path"] == "other.mp3"
    assert (third["path"], third["genre"], third["split"]) == ("three.mp3", "Jazz", "")
    last = merge(out, [("Album A/two.mp3", "Jazz")], LABELS, library, "valid").rows[-1]
    assert (last["path"], last["split"], last["group"]) == ("Album A/two.mp3", "valid", "Album A")
    again = merge(out, answers, LABELS, library)
    assert (again.n_new, again.n_changed) == (0, 0)


def test_the_command_says_what_it_left_out(library: Path, tmp_path: Path, tiny_model: None) -> None:
    filled = tmp_path / "review.csv"
    filled.write_text("file,genre\nthree.mp3,Jazz\nAlbum A/one.mp3,Nonsense\n")
    out = tmp_path / "manifest.csv"
    code, said = run("corrections", filled, "--out", out, "--root", library)
    assert code == 1
    assert "left out: Album A/one.mp3: the model has no genre 'Nonsense'" in said
    assert "1 files in" in said
    code, said = run("corrections", filled, "--out", out, "--root", library, "--any-genre")
    assert code == 0
    assert [row["genre"] for row in table(out)] == ["Jazz", "Nonsense"]


def test_what_is_no_answer_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("file,genre\na,b\n")
    with pytest.raises(ConfigError, match="no column top_genre"):
        list(read_flat(path))
    with pytest.raises(ConfigError, match="no probabilities"):
        list(read_answers(path))
    with pytest.raises(ConfigError, match=r"is not a \.jsonl"):
        list(read_flat(tmp_path / "a.txt"))


def test_a_local_uri_is_a_path(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    rows = [
        {"uri": uri, "top_genre": "Jazz", "predictions": [{}]}
        for uri in ("file:///a%20b.mp3", "/c%20d.mp3", "s3://bucket/e%20f.mp3")
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    names = [name for name, _ in read_answers(path)]
    assert names == ["/a b.mp3", "/c%20d.mp3", "s3://bucket/e%20f.mp3"]
