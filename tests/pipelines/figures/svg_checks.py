"""What every figure has to be, whatever it shows."""

import re
import xml.etree.ElementTree as ET

NS = "{http://www.w3.org/2000/svg}"
XLINK = "{http://www.w3.org/1999/xlink}href"


def texts(svg: str) -> list[str]:
    return ["".join(element.itertext()).strip() for element in ET.fromstring(svg).iter(f"{NS}text")]


def assert_same_bytes_and_self_contained(draw):
    svg = draw()
    assert svg == draw()
    root = ET.fromstring(svg)
    assert root.attrib["role"] == "img" and root.attrib["aria-label"]
    assert all(e.attrib[XLINK].startswith(("#", "data:")) for e in root.iter() if XLINK in e.attrib)
    assert "dc:date" not in svg and "<!--" not in svg and not re.search(r'[ ">]nan[ "<]', svg)
