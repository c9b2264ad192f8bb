"""HTML from the jinja2 templates that lie in a package; whatever is put into one is escaped."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Environment


def templates_of(package: str) -> Environment:
    """The templates in a package's folder ``templates``; a name that a template does not get is an error.

    Args:
        package: for example ``difflora.evaluation``.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader(package), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
