"""Multipart forms: files in order, fields, names for a reply, and forms that are rejected."""

from __future__ import annotations

import asyncio

import pytest
from starlette.formparsers import MultiPartException
from starlette.requests import Request
from starlette.types import Message

from acoustic.errors import InvalidRequestError
from deployments.http.uploads import MAX_FIELDS, MAX_NAME_CHARACTERS, Form, read_uploads

Part = tuple[str, str | None, bytes]
"""Name of a field, name of its file or None, content."""


def encode(parts: list[Part]) -> bytes:
    body = b""
    for name, filename, content in parts:
        disposition = f'form-data; name="{name}"'
        if filename is not None:
            disposition += f'; filename="{filename}"'
        body += f"--x\r\nContent-Disposition: {disposition}\r\n\r\n".encode() + content + b"\r\n"
    return body + b"--x--\r\n"


def read(
    parts: list[Part], max_files: int = 3, chunk_bytes: int = 1 << 20, charset: str = ""
) -> Form:
    """Send a form in chunks and read it."""
    body = encode(parts)
    left = [body[i : i + chunk_bytes] for i in range(0, len(body), chunk_bytes)]

    async def receive() -> Message:
        return {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}

    content_type = f"multipart/form-data; boundary=x{charset}".encode()
    scope = {"type": "http", "method": "POST", "headers": [(b"content-type", content_type)]}
    return asyncio.run(read_uploads(Request(scope, receive), max_files))


@pytest.mark.parametrize("chunk_bytes", [1, 7, 1 << 20])
def test_files_keep_their_order_and_bytes_and_fields_their_text(chunk_bytes: int) -> None:
    parts: list[Part] = [
        ("top_k", None, b"3"),
        ("file", "b.wav", bytes(range(256))),
        ("file", "a.wav", b"\r\n--y\r\n"),
        ("effort", None, "fäst".encode()),
    ]
    form = read(parts, chunk_bytes=chunk_bytes)
    assert [(each.name, each.data) for each in form.uploads] == [
        ("b.wav", bytes(range(256))), ("a.wav", b"\r\n--y\r\n"),
    ]  # fmt: skip
    assert form.fields == {"top_k": "3", "effort": "fäst"}


def test_a_large_file_is_complete() -> None:
    """Starlette moves a file above 1 MB to disk."""
    data = bytes(range(256)) * 10_000
    assert read([("file", "a.wav", data)]).uploads[0].data == data


def test_files_of_one_name_stay_two_files() -> None:
    form = read([("file", "a.wav", b"1"), ("file", "a.wav", b"2")])
    assert [each.data for each in form.uploads] == [b"1", b"2"]


def test_an_empty_file_is_still_a_file() -> None:
    (upload,) = read([("file", "a.wav", b"")]).uploads
    assert upload.data == b""


def test_a_field_named_file_without_a_file_name_is_text() -> None:
    form = read([("file", None, b"song"), ("file", "a.wav", b"1")])
    assert (len(form.uploads), form.fields) == (1, {"file": "song"})


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Björk – ☃.mp3", "Björk – ☃.mp3"),
        ("../../etc/passwd", "../../etc/passwd"),
        ("x" * 1000, "x" * MAX_NAME_CHARACTERS),
    ],
)
def test_names_are_repeated_and_cut(name: str, expected: str) -> None:
    (upload,) = read([("file", name, b"1")]).uploads
    assert upload.name == expected


def test_a_name_can_always_be_written_as_json() -> None:
    (upload,) = read([("file", "+2AA-.wav", b"1")], charset="; charset=utf-7").uploads
    assert upload.name.encode().endswith(b".wav")


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([], "no file in a field named 'file'"),
        ([("top_k", None, b"3")], "no file in a field named 'file'"),
        ([("audio", "a.wav", b"1")], "a file in a field that is not named 'file'"),
        ([("file", "a.wav", b"1"), ("other", "b.wav", b"1")], "not named 'file'"),
    ],
)
def test_a_form_without_a_usable_file_is_rejected(parts: list[Part], message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        read(parts)


@pytest.mark.parametrize(
    "parts",
    [
        [("file", f"{i}.wav", b"1") for i in range(4)],
        [("file", "a.wav", b"1"), *((f"f{i}", None, b"1") for i in range(MAX_FIELDS + 1))],
    ],
    ids=["files", "fields"],
)
def test_more_than_the_limit_is_rejected(parts: list[Part]) -> None:
    with pytest.raises(MultiPartException, match="Too many"):
        read(parts)
    assert read(parts[:-1]).uploads
