"""Lets the search show explanations and settings before other pages that have the word in a title."""

FIRST = {"how-it-works.md", "knobs.md"}


def on_page_markdown(markdown, page, config, files):
    """Boost a page of ``FIRST``, as `search: {boost: 4}` in its front matter would, which GitHub shows as a table."""
    if page.file.src_uri in FIRST:
        page.meta["search"] = {"boost": 4}
    return markdown
