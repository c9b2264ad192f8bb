"""Serves a study from this machine."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import uvicorn

from difflora.errors import BadParameter
from difflora.study.app import make_app
from difflora.study.pages import VOTES, Pages
from difflora.study.votes import Votes


def serve(study: Path, host: str, port: int, votes: Path | None = None, *, ready: Callable[[str], object]) -> None:
    """Serves until it is interrupted.

    Args:
        study: its folder.
        host: address to listen on.
        port: of it; 0 for any that is free.
        votes: the sqlite file; None for ``votes.sqlite`` of the folder.
        ready: told the address once connections are taken.

    Raises:
        BadFile: if pages are missing, or the file of votes is of other pages.
        BadParameter: if the address cannot be listened on.
    """
    pages = Pages.open(study)
    app = make_app(pages, Votes(votes or study / VOTES, pages.digest))
    try:
        listener = socket.create_server((host, port))
    except (OSError, OverflowError) as error:
        raise BadParameter(f"{host}:{port}: cannot be listened on ({error}); give another --host or --port") from error
    with listener:
        ready(f"http://{host}:{listener.getsockname()[1]}")
        # No access log: the addresses in it hold the raters' tokens.
        uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False)).run(sockets=[listener])
