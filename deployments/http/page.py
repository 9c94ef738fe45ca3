"""The page at /, the API pages at /docs, and their files. Nothing comes from another origin."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

FOLDER = Path(__file__).resolve().parent.parent / "web"
STATIC = "/static"
PUBLIC = frozenset({"/", "/docs", "/openapi.json"})
"""Paths that need no key: the page asks for it, and the others hold no data."""

NONCE_BYTES = 16
NOT_CACHED = {"cache-control": "no-cache"}


def page_routes() -> list[BaseRoute]:
    """Routes of the pages."""
    return [
        Route("/", _page("index.html")),
        Route("/docs", _page("docs.html")),
        Mount(STATIC, _Files(directory=FOLDER)),
    ]


def is_public(path: str) -> bool:
    """Whether a path belongs to the pages, which everybody may read."""
    return path in PUBLIC or path.startswith(f"{STATIC}/")


class _Files(StaticFiles):
    """Files that a browser asks about each time; an unchanged one is not sent again."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers.update(NOT_CACHED | {"x-content-type-options": "nosniff"})
        return response


def _page(name: str) -> Callable[[Request], Awaitable[Response]]:
    text = (FOLDER / name).read_text(encoding="utf-8")

    async def reply(request: Request) -> Response:
        nonce = secrets.token_urlsafe(NONCE_BYTES)
        headers = {**NOT_CACHED, "content-security-policy": _policy(nonce)}
        return HTMLResponse(text.replace("{{nonce}}", nonce), headers=headers)

    return reply


def _policy(nonce: str) -> str:
    return "; ".join(
        (
            "default-src 'self'",
            f"style-src 'self' 'nonce-{nonce}'",
            "style-src-attr 'unsafe-inline'",  # positions that the waveform sets
            "img-src 'self' blob: data:",
            "media-src 'self' blob:",
            "object-src 'none'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    )
