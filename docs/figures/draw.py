"""Draws the figures of the site: `python docs/figures/draw.py` writes a light and a dark SVG of each, beside this file.

Text may hold sub- and superscripts: "X_{l-1}^{T}". A figure is a function of a `Canvas`, which knows the colours.
"""

import math
import re
from html import escape
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parent
FONT = "system-ui, 'Segoe UI', Roboto, Helvetica, Arial, 'DejaVu Sans', sans-serif"
LIGHT = {
    "ink": "#1f2430", "muted": "#5b6472", "line": "#7b8494", "panel": "#f1f3f9", "edge": "#c3c9d8",
    "gene": "#3f51b5", "weight": "#c2620a", "good": "#23805a", "paper": "#ffffff",
}  # fmt: skip
DARK = {
    "ink": "#e8eaf2", "muted": "#aab2c4", "line": "#8e97ab", "panel": "#2b3040", "edge": "#4a5166",
    "gene": "#93a4ff", "weight": "#ffb470", "good": "#6fd6a6", "paper": "#1e2129",
}  # fmt: skip


class Canvas:
    """Collects the elements of one SVG."""

    def __init__(self, width: int, height: int, colours: dict[str, str], label: str):
        self.width, self.height, self.colours, self.label = width, height, colours, label
        self.parts: list[str] = []

    def text(self, x, y, text, size=14, colour="ink", anchor="middle", weight=400, italic=False) -> None:
        """One line, its baseline at ``y``."""
        style = ' font-style="italic"' if italic else ""
        self.parts.append(
            f'<text x="{x}" y="{y}" font-size="{size}" fill="{self.colours[colour]}" text-anchor="{anchor}" '
            f'font-weight="{weight}"{style}>{_scripts(text, size)}</text>'
        )

    def box(self, x, y, w, h, title, lines=(), colour="gene", dashed=False) -> None:
        """A rounded box with a bold title and smaller lines below it."""
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        self.parts.append(
            f'<rect x="{x}" y="{y}" width="{w}" height="{h}" rx="8" fill="{self.colours["panel"]}" '
            f'stroke="{self.colours[colour]}" stroke-width="1.6"{dash}/>'
        )
        top = y + h / 2 - 9 * len(lines) + 5
        self.text(x + w / 2, top, title, 15, colour, weight=650)
        for number, line in enumerate(lines, 1):
            self.text(x + w / 2, top + 18 * number, line, 12.5, "ink")

    def arrow(self, *points, colour="line", dashed=False) -> None:
        """A line through ``points`` with rounded corners and a head at its end."""
        path = f"M{points[0][0]} {points[0][1]}"
        for before, corner, after in zip(points, points[1:], points[2:], strict=False):
            (ax, ay), (bx, by) = _towards(corner, before, 9), _towards(corner, after, 9)
            path += f" L{ax} {ay} Q{corner[0]} {corner[1]} {bx} {by}"
        tip = points[-1]
        path += " L{} {}".format(*_towards(tip, points[-2], 6))
        dash = ' stroke-dasharray="4 4"' if dashed else ""
        stroke = self.colours[colour]
        self.parts.append(f'<path d="{path}" fill="none" stroke="{stroke}" stroke-width="1.8"{dash}/>')
        angle = math.degrees(math.atan2(tip[1] - points[-2][1], tip[0] - points[-2][0]))
        head = f'transform="translate({tip[0]} {tip[1]}) rotate({angle:.1f})"'
        self.parts.append(f'<path d="M0 0 L-9 -4.5 L-9 4.5 Z" fill="{stroke}" {head}/>')

    def matrix(self, x, y, values, cell, colour) -> None:
        """Cells shaded by size: a value's magnitude is its opacity; the sign is left out."""
        peak = np.abs(values).max()
        rows, columns = values.shape
        for i in range(rows):
            for j in range(columns):
                shade = 0.08 + 0.85 * abs(values[i, j]) / peak
                self.parts.append(
                    f'<rect x="{x + j * cell + 0.5}" y="{y + i * cell + 0.5}" width="{cell - 1}" height="{cell - 1}" rx="2" '
                    f'fill="{self.colours[colour]}" fill-opacity="{shade:.2f}"/>'
                )
        self.parts.append(
            f'<rect x="{x - 2}" y="{y - 2}" width="{columns * cell + 4}" height="{rows * cell + 4}" rx="4" fill="none" '
            f'stroke="{self.colours[colour]}" stroke-width="1.6"/>'
        )

    def svg(self) -> str:
        """The whole file."""
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" role="img" '
            f'aria-label="{escape(self.label)}" font-family="{FONT}">'
        )
        return "\n".join([head, *self.parts, "</svg>\n"])


def _towards(point, other, distance):
    """``point`` moved by ``distance`` towards ``other``."""
    dx, dy = other[0] - point[0], other[1] - point[1]
    length = math.hypot(dx, dy) or 1
    return round(point[0] + dx / length * distance, 1), round(point[1] + dy / length * distance, 1)


def _scripts(text: str, size: float) -> str:
    """``_{…}`` and ``^{…}`` as smaller, shifted spans; later text returns to the line."""
    out, shift = "", 0.0
    for plain, mark, script in re.findall(r"([^_^]+)|([_^])\{([^}]*)\}", text):
        down = {"_": 0.28, "^": -0.42}.get(mark, 0.0) * size
        scale = f' font-size="{size * 0.72:.1f}"' if mark else ""
        move = f' dy="{down - shift:.1f}"' if down != shift else ""
        out += f"<tspan{move}{scale}>{escape(plain or script)}</tspan>"
        shift = down
    return out


def encoding(colours) -> Canvas:
    """W_l[p] = X_l[p] · O · X_{l-1}[p]^T, and the chain in which each X_l serves two layers."""
    c = Canvas(880, 500, colours, "One weight slice is the product of two neuronal encodings and the shared gene matrix O.")
    rng = np.random.default_rng(5)
    X_out, O, X_in = rng.normal(size=(10, 3)), rng.normal(size=(3, 3)), rng.normal(size=(8, 3))
    cell, middle = 18, 150
    top = middle - 5 * cell
    c.text(28, 30, "At every kernel position p", 15, "muted", "start")
    c.matrix(60, top, X_out @ O @ X_in.T, cell, "weight")
    c.text(132, top + 204, "W_{l}[p]", 17, "weight", weight=650)
    c.text(132, top + 222, "C_{l} × C_{l-1}, grown, never stored", 12.5, "muted")
    c.text(262, middle + 6, "=", 26)
    c.matrix(316, top, X_out, cell, "gene")
    c.text(343, top + 204, "X_{l}[p]", 17, "gene", weight=650)
    c.text(343, top + 222, "C_{l} × g", 12.5, "muted")
    c.text(412, middle + 6, "·", 30)
    c.matrix(452, middle - 27, O, cell, "good")
    c.text(479, top + 204, "O", 17, "good", weight=650)
    c.text(479, top + 222, "g × g, one for all layers", 12.5, "muted")
    c.text(548, middle + 6, "·", 30)
    c.matrix(590, middle - 27, X_in.T, cell, "gene")
    c.text(662, top + 204, "X_{l-1}[p]^{T}", 17, "gene", weight=650)
    c.text(662, top + 222, "g × C_{l-1}", 12.5, "muted")
    _chain(c)
    return c


def _chain(c: Canvas) -> None:
    """Below the product: stem, three encoded convolutions, and which genes each weight is grown from."""
    c.text(28, 330, "Along the network", 15, "muted", "start")
    y = 420
    xs = [60, 270, 480, 690]
    for number, x in enumerate(xs):
        stem = number == 0
        lines = ["plain weight"] if stem else [f"W_{{{number}}} = X_{{{number}}} · O · X_{{{number - 1}}}^{{T}}"]
        c.box(x, y, 150, 58, "stem" if stem else f"convolution {number}", lines, "line" if stem else "weight")
        if number < 3:
            c.arrow((x + 150, y + 29), (x + 210, y + 29))
            at = x + 180
            c.parts.append(f'<circle cx="{at}" cy="368" r="19" fill="{c.colours["panel"]}" stroke="{c.colours["gene"]}" '
                           'stroke-width="1.8"/>')  # fmt: skip
            c.text(at, 373, f"X_{{{number}}}", 15, "gene", weight=650)
            c.arrow((at + 16, 380), (at + 58, y), colour="gene")
            if number:
                c.arrow((at - 16, 380), (at - 58, y), colour="gene")
    c.parts.append(f'<circle cx="840" cy="368" r="19" fill="{c.colours["panel"]}" stroke="{c.colours["gene"]}" '
                   'stroke-width="1.8"/>')  # fmt: skip
    c.text(840, 373, "X_{3}", 15, "gene", weight=650)
    c.arrow((826, 382), (806, y), colour="gene")


def evolution(colours) -> Canvas:
    """One generation of CMA-ES, and what the winner leads to."""
    c = Canvas(880, 410, colours, "CMA-ES asks for candidates, each is trained briefly and scored, and CMA-ES is told.")
    c.box(30, 40, 190, 86, "CMA-ES: ask", ["genes of every candidate:", "σ_{O}, σ_{l}, or of shape"])
    c.box(345, 40, 190, 86, "Draw the wiring", ["O, X_{l} ~ TN(0, σ²), shaped,", "one seed per generation"])
    c.box(660, 40, 190, 86, "Proxy training", ["E epochs on a part of", "the training images"], "weight")
    c.box(660, 232, 190, 86, "Measure", ["L_{ce}, R_{T} on the hold-out", "R_{S} on O"], "weight")
    c.box(
        320,
        232,
        240,
        86,
        "Fitness (lower is better)",
        ["F = L_{ce} − λ(t) · (a·R_{T} + b·R_{S})", "λ(t) = exp(−t / τ_{λ})"],
        "weight",
    )
    c.box(30, 232, 190, 86, "CMA-ES: tell", ["move and reshape", "the search distribution"])
    for points in [
        ((220, 83), (345, 83)), ((535, 83), (660, 83)), ((755, 126), (755, 232)), ((660, 275), (560, 275)),
        ((320, 275), (220, 275)), ((125, 232), (125, 126)),
    ]:  # fmt: skip
        c.arrow(*points)
    c.text(137, 184, "next generation", 12.5, "muted", "start")
    c.text(282, 72, "genotypes", 12.5, "muted")
    c.text(598, 72, "network", 12.5, "muted")
    c.text(610, 264, "scores", 12.5, "muted")
    c.arrow((440, 318), (440, 372), (540, 372), colour="good")
    c.box(540, 346, 310, 52, "winner → full training", ["its genes and its seed: genotype.json"], "good")
    _fading(c, 345, 148)
    return c


def _fading(c: Canvas, x: float, y: float) -> None:
    """λ(t) as bars: the weight of the regularisers over five generations."""
    c.text(x + 44, y + 34, "λ(t)", 13, "muted", "end")
    for t in range(5):
        height = 46 * math.exp(-t / 2)
        c.parts.append(
            f'<rect x="{x + 56 + t * 20}" y="{y + 52 - height:.1f}" width="13" height="{height:.1f}" rx="2" '
            f'fill="{c.colours["weight"]}" fill-opacity="0.75"/>'
        )
    c.text(x + 168, y + 52, "t = 0 … 4", 12, "muted", "start")


def stages(colours) -> Canvas:
    """The nine stages and the files that pass between them."""
    c = Canvas(880, 360, colours, "The stages check, prepare, evolve, train, plain, evaluate, robustness, export and report.")
    for x, w, title, line, colour in [
        (10, 96, "check", "params.yaml", "line"),
        (138, 104, "prepare", "images", "line"),
        (274, 112, "evolve", "CMA-ES", "gene"),
        (418, 112, "train, plain", "the winner", "weight"),
        (774, 98, "report", "one page", "good"),
    ]:
        c.box(x, 106, w, 62, title, [line], colour)
    for left, right in [(106, 138), (242, 274), (386, 418)]:
        c.arrow((left, 137), (right, 137))
    measured = [("robustness", "accuracy under noise"), ("evaluate", "accuracy, spikes, energy"), ("export", "ONNX, verified")]
    for row, (title, line) in enumerate(measured):
        top, middle = 24 + row * 82, 55 + row * 82
        c.box(572, top, 170, 62, title, [line], "good")
        straight = row == 1
        c.arrow(*([(530, 137), (572, 137)] if straight else [(530, 137), (551, 137), (551, middle), (572, middle)]))
        c.arrow(*([(742, 137), (774, 137)] if straight else [(742, middle), (823, middle), (823, 106 if row == 0 else 168)]))
    c.arrow((657, 168), (657, 188))
    for x, y, name in [
        (190, 94, "data/prepared/"),
        (330, 188, "models/evolve/"),
        (474, 94, "models/train/"),
        (657, 264, "models/export/"),
    ]:
        c.text(x, y, name, 12, "muted")
    c.text(851, 192, "reports/", 12, "muted")
    _around(c)
    return c


def _around(c: Canvas) -> None:
    """What stands around the stages."""
    for x, w, title, line in [
        (10, 278, "DVC", "knows what is stale, keeps every result"),
        (300, 278, "MLflow", "a run per stage and per candidate"),
        (590, 282, "Prefect", "starts the stages on a schedule (optional)"),
    ]:
        c.box(x, 292, w, 54, title, [line], "line", dashed=True)


FIGURES = {"encoding": encoding, "evolution": evolution, "stages": stages}


def draw() -> dict[str, str]:
    """All figures: file name → SVG."""
    schemes = {"light": LIGHT, "dark": DARK}
    return {
        f"{name}-{scheme}.svg": figure(colours).svg() for name, figure in FIGURES.items() for scheme, colours in schemes.items()
    }


if __name__ == "__main__":
    for name, text in draw().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
