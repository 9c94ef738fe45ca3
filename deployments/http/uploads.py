"""Reads the files and fields of a multipart form."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.datastructures import UploadFile
from starlette.requests import Request

from acoustic.errors import InvalidRequestError
from acoustic.request import MAX_NAME_CHARACTERS

MAX_FIELDS = 16
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
    async with request.form(max_files=max_files, max_fields=MAX_FIELDS) as form:
        for name, value in form.multi_items():
            if not isinstance(value, UploadFile):
                fields[name] = value
            elif name != FILE_FIELD:
                raise InvalidRequestError(
                    f"the form has a file in a field that is not named {FILE_FIELD!r}"
                )
            else:
                uploads.append(Upload(_printable(value.filename or ""), await value.read()))
    if not uploads:
        raise InvalidRequestError(f"the form has no file in a field named {FILE_FIELD!r}")
    return Form(uploads, fields)


def _printable(name: str) -> str:
    """File name for a reply: no lone surrogates, at most MAX_NAME_CHARACTERS characters."""
    return name[:MAX_NAME_CHARACTERS].encode("utf-8", "replace").decode("utf-8")
