"""Keeps the API reference complete: every public name stands on one of its pages, and everything public is documented.

Reads the sources without importing them. A gap ends the build.
"""

import re
from pathlib import Path

import griffe
from mkdocs.exceptions import PluginError

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "gee_core"
PLACE = "<!-- public names -->"
OVERRIDES = {"extra_repr"}
"""Methods of torch's own protocol, which torch documents; so are those of a `torch.autograd.Function`."""


def on_pre_build(config):
    """End the build where something public has no docstring, or no place in the reference."""
    if found := gaps(load(), pages()):
        raise PluginError("API reference: " + "; ".join(found))


def on_page_markdown(markdown, page, config, files):
    """Fill the table of public names on the reference's first page."""
    return markdown.replace(PLACE, table(load(), pages())) if page.file.src_uri == "reference/index.md" else markdown


def load(root: Path = ROOT, package: str = PACKAGE) -> griffe.Module:
    """The package as griffe reads it from its sources."""
    return griffe.load(package, search_paths=[root])


def pages(folder: Path = ROOT / "docs/reference") -> dict[str, str]:
    """The page of every object that the reference shows: full name → file name."""
    return {
        name: page.name
        for page in sorted(folder.glob("*.md"))
        for name in re.findall(r"^::: ([\w.]+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    }


def public_names(package: griffe.Module) -> list[str]:
    """What the package's `__all__` lists."""
    return [str(name) for name in package.exports or []]


def undocumented(module: griffe.Module | griffe.Class) -> list[str]:
    """Full names of public modules, functions, classes and methods without a docstring, in no base class either."""
    inherited = {name for base in module.mro() for name in base.members} if module.is_class else set()
    found = [] if module.docstring or not module.is_module else [module.path]
    for name, member in module.members.items():
        if member.is_alias or member.is_attribute or name.startswith("_") or name in OVERRIDES:
            continue
        if member.is_module:
            found += undocumented(member)
            continue
        if not member.docstring and name not in inherited and not _is_autograd(module):
            found.append(member.path)
        if member.is_class:
            found += undocumented(member)
    return found


def gaps(package: griffe.Module, shown: dict[str, str]) -> list[str]:
    """What the reference lacks, a sentence each."""
    names = {f"{package.name}.{name}": package[name] for name in public_names(package)}
    return [
        *(f"{path} has no docstring" for path in undocumented(package)),
        *(f"{name} has no docstring" for name, member in names.items() if not summary(member)),
        *(f"{name} is on no page of docs/reference" for name in names if name not in shown),
    ]


def summary(member: griffe.Object | griffe.Alias) -> str:
    """The first sentence of a docstring, on one line; of a constant without one, its module's that names it, or its value."""
    text = member.docstring.value if member.docstring else ""
    if not text and member.is_attribute:
        about = member.final_target.parent.docstring if member.is_alias else None
        text = about.value if about and f"``{member.name}``" in about.value else ""
        text = text or (f"`{member.value}`" if member.name.startswith("__") else "")
    line = re.sub(r"\s+", " ", text.split("\n\n")[0]).replace("``", "`").strip()
    return re.sub(r"(?<=\w)\*(?=\w)", r"\*", line)  # products are no emphasis


def table(package: griffe.Module, shown: dict[str, str]) -> str:
    """Public names with a link and what each is for, as Markdown."""
    rows = [
        f"| [`{name}`]({shown[f'{package.name}.{name}']}#{package.name}.{name}) | {summary(package[name])} |"
        for name in sorted(public_names(package), key=str.lower)
    ]
    return "\n".join(["| name | what it is for |", "|---|---|", *rows])


def _is_autograd(owner: griffe.Module | griffe.Class) -> bool:
    return owner.is_class and any(str(base).endswith("autograd.Function") for base in owner.bases)
