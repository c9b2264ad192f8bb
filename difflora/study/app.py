"""The study as a small site: plain forms, which work without JavaScript; nothing is loaded from elsewhere."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qsl

from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.staticfiles import StaticFiles
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from difflora.pages import templates_of
from difflora.study.pages import LEAST, MOST, QUESTIONS, Item, Pages
from difflora.study.votes import Marks, Votes

COOKIE = "rater"
_YEAR = 365 * 24 * 3600
_LARGEST = 4096
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; img-src 'self' data:; style-src 'self'; script-src 'self'; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",  # the address of a page holds the rater's token
    "X-Content-Type-Options": "nosniff",
}


def make_app(pages: Pages, votes: Votes) -> FastAPI:
    """The site of one study.

    A rater begins once, gets a token in a cookie and in the address, and finds the first page without a vote under
    ``/r/TOKEN`` whenever they come back, also on another device.

    Args:
        pages: what is shown; the key is neither needed nor read.
        votes: where votes go.
    """
    app = FastAPI(title="study", docs_url=None, redoc_url=None, openapi_url=None)
    templates = templates_of("difflora.study")
    scale = range(LEAST, MOST + 1)
    marks_in_words = {str(mark) for mark in scale}

    def show(name: str, status: int = 200, **values: Any) -> HTMLResponse:
        text = templates.get_template(name).render(questions=QUESTIONS, scale=scale, **values)
        return HTMLResponse(text, status, {"Cache-Control": "no-store"})

    def rater_of(token: str) -> int:
        rater = votes.rater(token)
        if rater is None:
            raise HTTPException(404, "This address belongs to nobody. Was it copied whole?")
        return rater

    def item_of(token: str, number: int) -> tuple[list[Item], Item]:
        items = pages.of_rater(token)
        if not 1 <= number <= len(items):
            raise HTTPException(404, f"There are pages 1 to {len(items)}.")
        return items, items[number - 1]

    def go(token: str, place: int | str) -> RedirectResponse:
        return RedirectResponse(f"/r/{token}/{place}", 303)

    def page(
        token: str, number: int, rater: int, chosen: dict[str, int] | None = None, missing: tuple[str, ...] = ()
    ) -> HTMLResponse:
        items, item = item_of(token, number)
        known = votes.of(rater)
        stored = known[item.id].model_dump() if item.id in known else {}
        return show(
            "page.html.jinja",
            422 if missing else 200,
            token=token,
            number=number,
            total=len(items),
            rated=sum(one.id in known for one in items),
            item=item,
            chosen=stored if chosen is None else chosen,
            stored=item.id in known,
            missing=missing,
        )

    @app.middleware("http")
    async def headers(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        response = await call_next(request)
        response.headers.update(_HEADERS)
        return response

    @app.exception_handler(HTTPException)
    async def failed(request: Request, error: HTTPException) -> HTMLResponse:
        return show("error.html.jinja", error.status_code, words=error.detail)

    @app.get("/health")
    def health() -> dict[str, Any]:
        return {"study": pages.digest, "pages": len(pages.items)}

    @app.get("/")
    def welcome(request: Request) -> HTMLResponse:
        token = request.cookies.get(COOKIE, "")
        known = token if token and votes.rater(token) is not None else None
        return show("welcome.html.jinja", total=len(pages.of_rater("")), token=known)

    @app.post("/begin")
    def begin() -> RedirectResponse:
        token = votes.begin()
        response = RedirectResponse(f"/r/{token}", 303)
        response.set_cookie(COOKIE, token, max_age=_YEAR, httponly=True, samesite="lax")
        return response

    @app.get("/r/{token}")
    def resume(token: str) -> RedirectResponse:
        return go(token, _next(pages.of_rater(token), votes.of(rater_of(token)), 0))

    @app.get("/r/{token}/done")
    def done(token: str) -> HTMLResponse:
        known, items = votes.of(rater_of(token)), pages.of_rater(token)
        left = [number for number, item in enumerate(items, 1) if item.id not in known]
        return show("done.html.jinja", token=token, total=len(items), left=left)

    @app.get("/r/{token}/{number:int}")
    def ask(token: str, number: int) -> HTMLResponse:
        return page(token, number, rater_of(token))

    @app.post("/r/{token}/{number:int}", response_model=None)
    async def vote(token: str, number: int, request: Request) -> Response:
        said = await _form(request)

        def answer() -> Response:
            rater = rater_of(token)
            items, item = item_of(token, number)
            try:
                marks = Marks.model_validate(said)
            except ValidationError as error:
                wrong = {str(one["loc"][0]) for one in error.errors()}
                good = {name: int(said[name]) for name in QUESTIONS if said.get(name) in marks_in_words}
                return page(token, number, rater, good, tuple(name for name in QUESTIONS if name in wrong) or ("all",))
            votes.cast(rater, item.id, marks)
            return go(token, _next(items, votes.of(rater), number))

        return await run_in_threadpool(answer)

    app.mount("/pictures", StaticFiles(directory=pages.folder / "pictures"))
    app.mount("/static", StaticFiles(packages=[("difflora.study", "static")]))
    return app


def _next(items: list[Item], known: dict[str, Marks], number: int) -> int | str:
    """The first page after a page that has no vote yet, from the start again at the end; else ``done``."""
    order = [*range(number + 1, len(items) + 1), *range(1, number + 1)]
    return next((place for place in order if items[place - 1].id not in known), "done")


async def _form(request: Request) -> dict[str, str]:
    """The fields of a posted form."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _LARGEST:
            raise HTTPException(413, "That is more than a form of this study holds.")
    try:
        return dict(parse_qsl(body.decode(), max_num_fields=20))
    except ValueError as error:
        raise HTTPException(400, "That is no form of this study.") from error
