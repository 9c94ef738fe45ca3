"""Reads the files and fields of a multipart form."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartParser
from starlette.requests import Request

from acoustic.errors import InvalidRequestError
from acoustic.request import MAX_NAME_CHARACTERS

MAX_FIELDS = 16
_EXTENDED_NAME = re.compile(rb"filename\*\s*=\s*(?:[\w-]+)?'[\w-]*'([^;\s]*)", re.IGNORECASE)
_PLAIN_NAME = re.compile(rb"filename\s*=", re.IGNORECASE)
FILE_FIELD = "file"


@dataclass(frozen=True, slots=True)
class Upload:
    """One uploaded file.

    Attributes:
        name: file name as the caller sent it, at most MAX_NAME_CHARACTERS long.
        data: content of the file.
    """

    name: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Form:
    """Content of a multipart form.

    Attributes:
        uploads: files in the order of the form.
        fields: name → text of the other fields.
    """

    uploads: list[Upload]
    fields: dict[str, str]


async def read_uploads(request: Request, max_files: int) -> Form:
    """Read a whole form; the middleware BodyLimit bounds its size.

    Args:
        request: request with a multipart body.
        max_files: largest number of files in one form.

    Raises:
        InvalidRequestError: there is no file, or a file in a field of another name.
        MultiPartException: the form is malformed, or has too many files or fields.
    """
    uploads: list[Upload] = []
    fields: dict[str, str] = {}
    parser = _Parser(request.headers, request.stream(), max_files=max_files, max_fields=MAX_FIELDS)
    async with _closing(await parser.parse()) as form:
        for name, value in form.multi_items():
            if not isinstance(value, UploadFile):
                fields[name] = value
            elif name != FILE_FIELD:
                raise InvalidRequestError(
                    f"the form has a file in a field that is not named {FILE_FIELD!r}"
                )
            else:
                uploads.append(Upload(_printable(value.filename or ""), await value.read()))
    if not uploads and FILE_FIELD in fields:
        raise InvalidRequestError(
            f"the form's field {FILE_FIELD!r} is text: send it with a file name, as "
            "`curl -F file=@song.mp3` does"
        )
    if not uploads:
        raise InvalidRequestError(f"the form has no file in a field named {FILE_FIELD!r}")
    return Form(uploads, fields)


@asynccontextmanager
async def _closing(form: FormData) -> AsyncIterator[FormData]:
    try:
        yield form
    finally:
        await form.close()


class _Parser(MultiPartParser):
    """Takes a part that has only an extended file name (`filename*=`) for a file, too.

    Source: RFC 5987 (the form of the name); RFC 7578 does not allow it, but clients send it.
    """

    def on_headers_finished(self) -> None:
        """Give the part an ordinary file name before it is looked at."""
        part = self._current_part
        header = part.content_disposition or b""
        match = _EXTENDED_NAME.search(header)
        if match and not _PLAIN_NAME.search(header):
            name = unquote_to_bytes(match[1]).replace(b"\\", b"").replace(b'"', b"")
            part.content_disposition = header + b'; filename="' + name + b'"'
        super().on_headers_finished()


def _printable(name: str) -> str:
    """File name for a reply: no lone surrogates, at most MAX_NAME_CHARACTERS characters."""
    return name[:MAX_NAME_CHARACTERS].encode("utf-8", "replace").decode("utf-8")
