"""Loading models without the libraries' own progress bars, which would stand in the middle of a command's output."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_bars() -> Iterator[None]:
    """Transformers and diffusers show no bars inside; outside they are as they were."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    shown = [one for one in (diffusers_logging, transformers_logging) if one.is_progress_bar_enabled()]
    for one in shown:
        one.disable_progress_bar()
    try:
        yield
    finally:
        for one in shown:
            one.enable_progress_bar()
