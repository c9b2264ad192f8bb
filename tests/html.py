"""Pages as a reader of HTML sees them."""

from __future__ import annotations

from html.parser import HTMLParser

_VOID = {"meta", "link", "img", "br", "input", "hr"}


class Page(HTMLParser):
    """Every element with its attributes and the text inside it; tags that do not close are an error.

    Args:
        text: of the page.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str], list[str]]] = []
        self._open: list[int] = []
        self.feed(text)
        self.close()
        assert not self._open, [self.elements[place][0] for place in self._open]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}, []))
        if tag not in _VOID:
            self._open.append(len(self.elements) - 1)

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"</{tag}> closes nothing"
        assert self.elements[self._open[-1]][0] == tag, f"</{tag}> closes <{self.elements[self._open[-1]][0]}>"
        self._open.pop()

    def handle_data(self, data: str) -> None:
        for place in self._open:
            self.elements[place][2].append(data)

    def all(self, tag: str, **attributes: str) -> list[dict[str, str]]:
        """The attributes of every such element."""
        wanted = {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items()}
        return [has for name, has, _ in self.elements if name == tag and wanted.items() <= has.items()]

    def texts(self, tag: str) -> list[str]:
        """The text inside every such element, blanks made one."""
        return [" ".join("".join(parts).split()) for name, _, parts in self.elements if name == tag]

    @property
    def text(self) -> str:
        """All of the body's text."""
        return self.texts("body")[0]
