"""Makes Markdown of docstrings: a `*` between letters, as in shapes such as (T*B, C), is a product and no emphasis."""

import re

import griffe


class Products(griffe.Extension):
    """Escapes products in every docstring."""

    def on_object(self, *, obj: griffe.Object, **kwargs) -> None:
        """Rewrite the docstring of ``obj``."""
        if obj.docstring:
            obj.docstring.value = escaped(obj.docstring.value)


def escaped(text: str) -> str:
    """``text`` with a backslash before each product sign outside code."""
    parts = re.split(r"(`+[^`]+`+|^ {4,}\S.*$)", text, flags=re.MULTILINE)
    return "".join(part if part.startswith(("`", "    ")) else re.sub(r"(?<=\w)\*(?=\w)", r"\\*", part) for part in parts)
