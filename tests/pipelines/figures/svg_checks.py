"""What every figure has to be, whatever it shows."""

import re
import xml.etree.ElementTree as ET

NS = "{http://www.w3.org/2000/svg}"
XLINK = "{http://www.w3.org/1999/xlink}href"


def texts(svg: str) -> list[str]:
    return ["".join(element.itertext()).strip() for element in ET.fromstring(svg).iter(f"{NS}text")]


def assert_self_contained(svg: str) -> None:
    """It loads nothing, names no date, and its references find their ids."""
    root = ET.fromstring(svg)
    assert root.attrib["role"] == "img" and root.attrib["aria-label"]
    assert all(e.attrib[XLINK].startswith(("#", "data:")) for e in root.iter() if XLINK in e.attrib)
    assert "dc:date" not in svg and "<!--" not in svg and not re.search(r'[ ">]nan[ "<]', svg)
    ids = [e.attrib["id"] for e in root.iter() if "id" in e.attrib]
    assert len(ids) == len(set(ids)) and {e.attrib[XLINK][1:] for e in root.iter(f"{NS}use")} <= set(ids)
