"""The demo page at `/` and the API's documentation at `/docs`: files of this package, nothing from elsewhere."""

from __future__ import annotations

from pathlib import Path, PurePath

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.staticfiles import PathLike, StaticFiles
from starlette.types import Scope

FOLDER = Path(__file__).with_name("page")
SERVED = {".css", ".html", ".jpg", ".js", ".png", ".svg"}  # a package's folder also holds Python

_POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' blob: data:",
    "connect-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
}
# Swagger UI writes style attributes.
_DOCS_POLICY = {**_POLICY, "style-src": "'self' 'unsafe-inline'"}

HEADERS = {
    "Cache-Control": "no-cache",  # kept, and asked for again by its ETag
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def _policy(directives: dict[str, str]) -> str:
    return "; ".join(f"{name} {sources}" for name, sources in directives.items())


class Files(StaticFiles):
    """Static files with a content security policy and the other headers that a browser guards a page by."""

    def __init__(
        self,
        *,
        directory: PathLike | None = None,
        packages: list[str | tuple[str, str]] | None = None,
        policy: dict[str, str] = _POLICY,
    ) -> None:
        super().__init__(directory=directory, packages=packages)
        self._headers = {**HEADERS, "Content-Security-Policy": _policy(policy)}

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Return a file, or nothing where the browser's copy is the same."""
        if PurePath(path).suffix not in SERVED:
            raise HTTPException(404)
        response = await super().get_response(path, scope)
        response.headers.update(self._headers)
        return response


def install(app: FastAPI) -> None:
    """Add the page, and the documentation in the place of FastAPI's own, which fetches its scripts from elsewhere."""
    page, docs = Files(directory=FOLDER), Files(directory=FOLDER, policy=_DOCS_POLICY)

    async def show_page(request: Request) -> Response:
        return await page.get_response("index.html", request.scope)

    async def show_docs(request: Request) -> Response:
        return await docs.get_response("docs.html", request.scope)

    app.add_route("/", show_page, ["GET"], include_in_schema=False)
    app.add_route("/docs", show_docs, ["GET"], include_in_schema=False)
    app.mount("/docs/swagger", Files(packages=[("fastapi_swagger", "resources")]))
    app.mount("/page", page)
