"""The dashboard at `/`: three built files that need nothing from anywhere else.

Their sources are in `control_plane/ui/`. The policy lets the page run its own script and ask its own
replica, and nothing besides: text that slipped through as markup could do nothing.
"""

import hashlib
from importlib.resources import files
from typing import Annotated

from fastapi import APIRouter, Header, Response

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src data:",  # the icon
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",  # nobody overlays a drain button
    )
)
FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/app.js": ("app.js", "text/javascript; charset=utf-8"),
    "/app.css": ("app.css", "text/css; charset=utf-8"),
}


def dashboard() -> APIRouter:
    """The page and what it loads, each with an entity tag, so that asking again costs nothing."""
    router = APIRouter()
    folder = files("control_plane.api").joinpath("page")
    for path, (name, media_type) in FILES.items():
        _serve(router, path, folder.joinpath(name).read_bytes(), media_type)
    return router


def _serve(router: APIRouter, path: str, body: bytes, media_type: str) -> None:
    tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {
        "content-security-policy": POLICY,
        "etag": tag,
        "cache-control": "no-cache",
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
    }

    @router.get(path, include_in_schema=False, name=path)
    async def file(if_none_match: Annotated[str, Header()] = "") -> Response:
        if tag in if_none_match:
            return Response(status_code=304, headers=headers)
        return Response(body, media_type=media_type, headers=headers)
