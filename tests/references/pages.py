"""Reading the HTML pages that the demo writes."""

from __future__ import annotations

import re
from html.parser import HTMLParser


class References(HTMLParser):
    """Collects what a page refers to, and the identifiers that it has."""

    def __init__(self):
        super().__init__()
        self.references, self.ids = [], []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.references += [values[name] for name in ("href", "src", "srcset") if name in values]
        self.ids += [values["id"]] if "id" in values else []


def assert_whole_and_escaped(page):
    """A page about a photograph named a<i> and a class named <b>: no reference leads outside."""
    parser = References()
    parser.feed(page)
    inside = {value[1:] for value in parser.references if value.startswith("#")}
    assert inside == {"photo"}
    assert inside <= set(parser.ids)
    assert all(value.startswith(("#", "data:")) for value in parser.references)
    assert not re.search(r"https?://|@import|url\(|\$", page)
    assert "<b>" not in page
    assert "<i>." not in page
    assert "“&lt;b&gt;”" in page
    assert "tiny &amp; fake" in page


def visible_text(page):
    """Return the text of a page's main part, single spaces between the words."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", page.split("<main>")[1]))
