"""What a browser makes of a page, and text that must not become a tag."""

from __future__ import annotations

import re
from html.parser import HTMLParser

EVIL = '<script>alert("1")</script><img src="https://evil.example/x.png" onerror=alert(1)>\'&'


class Page(HTMLParser):
    """What a browser makes of a page: its tags, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


def fetched(parsed: Page, text: str) -> list[str]:
    """Addresses that a browser would fetch for the page."""
    names = ("src", "srcset", "href", "xlink:href", "data", "poster", "action")
    addresses = [value for _, attrs in parsed.tags for name, value in attrs.items() if name in names]
    addresses += re.findall(r"url\(([^)]*)\)", text) + re.findall(r"@import\s*(\S+)", text)
    return [address for address in addresses if not address.strip("\"'").startswith(("#", "data:"))]
