"""Helps the search of the site.

Explanations and settings come before other pages that have the word in a title. Words that readers type and the pages do not
use lead to the place that answers them. American spellings lead to British ones.
"""

import re

from mkdocs.plugins import event_priority

FIRST = {"how-it-works.md", "knobs.md"}

ALSO = {
    "pretrained.html#fine-tune-one-on-your-photographs": ["transfer", "learning"],
    "tutorials/first-run.html": ["pip", "install"],
    "tutorials/your-images.html": ["custom", "dataset"],
}
"""Words by the place that answers them."""

SPELLINGS = {
    r"(initial|minim|normal|optim|orthogonal|quant|recogn|regular|summar|synchron)is(?!m)": r"\1iz",
    r"(behavio|colo|neighbo)ur": r"\1r",
    "grey": "gray",
}
"""American by British parts of words."""


def on_page_markdown(markdown, page, config, files):
    """Boost a page of ``FIRST``, as `search: {boost: 4}` in its front matter would, which GitHub shows as a table."""
    if page.file.src_uri in FIRST:
        page.meta["search"] = {"boost": 4}
    return markdown


def american_words(text):
    """The words of ``text`` that are spelled otherwise in American English, as they are spelled there, in lower case."""
    text = american = text.lower()
    for british, other in SPELLINGS.items():
        american = re.sub(british, other, american)
    return sorted(set(re.findall(r"\w+", american)) - set(re.findall(r"\w+", text)))


@event_priority(100)  # before the plugin writes its index
def on_post_build(config):
    """Add these words to the index: those of ``ALSO`` as tags, which count most, the others at the end of the text."""
    entries = {entry["location"]: entry for entry in config.plugins["material/search"].search_index.entries}
    for location, words in ALSO.items():
        entries[location]["tags"] = words  # a KeyError where the place is gone
    for entry in entries.values():
        entry["text"] += f"<p>{' '.join(american_words(entry['title'] + ' ' + entry['text']))}</p>"
