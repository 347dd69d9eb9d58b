"""Counts words, semicolons and long sentences of the pages, and says which of its limits they miss.

    python docs/count_words.py

Words are those of `wc -w`. Code has no semicolons and sentences, a table no sentences; an expression in backquotes is a word.
"""

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
CODE = re.compile(r"^(```|~~~).*?^\1|^(?: {4}(?! *[-*] )|\t).*?$|`[^`\n]+`", flags=re.DOTALL | re.MULTILINE)
BLOCK = re.compile(r"\n\s*\n|\n(?=\s*(?:[-*#>]|\d+\.) )|(?<=\n)(?=\|)")
END = re.compile(r"(?<=[.!?])[\"')*_]*\s+(?=[\"'(*_\[]*[A-Z0-9⟦])")
LONG = 35
"""Most words of a sentence that is not long."""


class Counts(NamedTuple):
    """Of a page or of several."""

    words: int
    semicolons: int
    sentences: int
    long: int

    def row(self, name: str) -> str:
        per_1000, share = 1000 * self.semicolons / max(1, self.words), 100 * self.long / max(1, self.sentences)
        return f"{name:<40} {self.words:>7,} {per_1000:>12.1f} {share:>10.1f} %"


def count(path: Path) -> Counts:
    """The counts of one page."""
    text = path.read_text(encoding="utf-8")
    prose = CODE.sub(lambda code: "⟦⟧" if code[0].startswith("`") and "\n" not in code[0] else "", text)
    blocks = [block for block in BLOCK.split(prose) if block.strip() and not block.lstrip().startswith(("|", "#", "<", "!["))]
    sentences = [sentence.split() for block in blocks for sentence in END.split(block)]
    semicolons = re.sub(r"&#?\w+;", "", prose).count(";")
    return Counts(len(text.split()), semicolons, len(sentences), sum(len(words) > LONG for words in sentences))


def main() -> None:
    readme, changelog = ROOT / "README.md", ROOT / "CHANGELOG.md"
    pages = [path for path in sorted((ROOT / "docs").rglob("*.md")) if "reference" not in path.parts]
    counts = {path: count(path) for path in (readme, changelog, *pages)}
    docs, total = (Counts(*map(sum, zip(*rows, strict=True))) for rows in (list(counts.values())[2:], counts.values()))
    print(f"{'page':<40} {'words':>7} {'; per 1,000':>12} {'long':>12}")
    print("\n".join(found.row(str(path.relative_to(ROOT))) for path, found in counts.items()))
    print(f"{docs.row('docs')}\n{total.row('total')}")
    limits = (("README.md", counts[readme], 1100), ("CHANGELOG.md", counts[changelog], 1500), ("docs", docs, 30_500))
    missed = [f"{name}: {found.words:,} words, at most {most:,}" for name, found, most in limits if found.words > most]
    missed += ["more than 4 semicolons per 1,000 words"] * (total.semicolons > 0.004 * total.words)
    missed += [f"more than 2 % of the sentences have over {LONG} words"] * (total.long > 0.02 * total.sentences)
    print("\n".join(f"missed: {limit}" for limit in missed) or "all limits are met")


if __name__ == "__main__":
    main()
