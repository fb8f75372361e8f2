"""Room for wide tables, and options and names in one piece."""

from __future__ import annotations

import re
from typing import Any

from mkdocs.structure.pages import Page

WIDE = {"results.md"}  # whose tables take the place of the table of contents
LONGEST = 32  # characters of code, which a phone has room for


def on_page_markdown(markdown: str, *, page: Page, **_: Any) -> str:
    """Leave the table of contents out where the tables need its room."""
    if page.file.src_uri in WIDE:
        page.meta["hide"] = ["toc"]
    return markdown


def on_page_content(html: str, **_: Any) -> str:
    """Mark short code, which `assets/site.css` then keeps whole: a browser would break it after its first hyphen."""
    return re.sub(rf"<code>([^<]{{1,{LONGEST}}})</code>", r'<code class="whole">\1</code>', html)
