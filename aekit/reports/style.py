"""How every figure looks, and how it becomes an inline SVG or a PNG.

Figures are drawn in the light theme's colours, which a PNG keeps. On the page these colours become CSS variables, text
stays text and pictures keep their own pixels, so a figure follows the reader's theme and is crisp at any size. Every
figure of the page is as wide as a phone: the page sets them in columns, and no text ever shrinks.
"""

import io
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

Colour = str | tuple[str, float]  # with its opacity
Style = str | tuple[int, tuple[float, float]]  # of a line
DASHED: Style = (0, (4, 2))
DOTTED: Style = (0, (1, 1.2))

WIDTH = 3.5  # inches: 336 CSS pixels

PALETTE = {  # light theme, dark theme; the hues are Okabe and Ito's, darkened where white swallows them
    "ink": ("#1c2430", "#e4e8ee"),
    "muted": ("#5f6b7a", "#9ba6b5"),
    "line": ("#dbe0e8", "#39424f"),
    "card": ("#ffffff", "#1c2128"),
    "page": ("#f6f7f9", "#13161b"),
    "blue": ("#0072b2", "#4da6e0"),
    "orange": ("#de9000", "#efb03c"),
    "green": ("#009e73", "#2fbf96"),
    "pink": ("#cc79a7", "#dc97bf"),
    "red": ("#d55e00", "#f2813a"),
    "sky": ("#56b4e9", "#9bd4f6"),
    "purple": ("#7b5ea7", "#a98fd3"),
    "brown": ("#8a5a33", "#bd8f68"),
    "olive": ("#8f8f1f", "#c3c353"),
    "rose": ("#a81e63", "#e06a9f"),
    "grey": ("#8a94a3", "#7c8796"),
}
INK, MUTED, LINE, CARD, BLUE, ORANGE, RED, GREY = (
    PALETTE[name][0] for name in ("ink", "muted", "line", "card", "blue", "orange", "red", "grey")
)
HUES = [  # of classes
    PALETTE[name][0] for name in ("blue", "orange", "green", "pink", "red", "sky", "purple", "brown", "olive", "rose")
]

_LOOK: dict[Any, Any] = {  # over matplotlib's own defaults, so that nobody's matplotlibrc changes a report
    "axes.axisbelow": True,
    "axes.edgecolor": MUTED,
    "axes.formatter.limits": (-4, 6),
    "axes.grid": True,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 8,
    "axes.linewidth": 0.6,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.xmargin": 0.0,
    "figure.facecolor": CARD,
    "axes.facecolor": "none",
    "figure.constrained_layout.h_pad": 0.02,
    "figure.constrained_layout.w_pad": 0.02,
    "font.size": 8,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "image.composite_image": False,
    "legend.borderaxespad": 0.2,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "legend.handlelength": 1.4,
    "lines.linewidth": 1.2,
    "svg.fonttype": "none",
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": MUTED,
    "xtick.labelsize": 7.5,
    "xtick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.color": MUTED,
    "ytick.labelsize": 7.5,
    "ytick.major.size": 0,
    "ytick.minor.size": 0,
}
_PER_PROCESS = ("backend", "backend_fallback", "interactive", "toolbar", "timezone", "date.epoch", "docstring.hardcopy")
_DEFAULTS: dict[Any, Any] = {key: value for key, value in matplotlib.rcParamsDefault.items() if key not in _PER_PROCESS}
_lock = threading.RLock()  # matplotlib's settings and the warning filters are the process's


@contextmanager
def look(salt: str = "aekit") -> Iterator[None]:
    """Draw in the report's style; also a decorator. Glyphs that matplotlib's font lacks are the browser's to find."""
    with _lock, matplotlib.rc_context({**_DEFAULTS, **_LOOK, "svg.hashsalt": salt}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        yield


def svg(figure: Figure, salt: str, label: str) -> str:
    """An <svg> element, at most as wide as the figure; `salt` sets its ids apart, `label` (escaped) is read aloud."""
    out = io.StringIO()
    with look(salt):
        figure.savefig(out, format="svg", dpi=192, transparent=True, metadata={"Date": None})
    width, height = (f"{72 * inches:g}" for inches in figure.get_size_inches())
    body = out.getvalue().split("<svg", 1)[1].split(">", 1)[1]
    body = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", body, flags=re.DOTALL)
    body = re.sub(r'(?<=<g) id="[^"]*"| id="image[^"]*"', "", body)  # not unique in a page, and nothing refers to them
    body = re.sub(r"font-family: [^;\"]*;? ?", "", body)  # the page's
    body = re.sub(r' d="[^"]*"', lambda path: re.sub(r"(\.\d\d)\d+", r"\1", path[0]), body)
    for name, (light, _) in PALETTE.items():
        body = re.sub(f"(fill|stroke): {light}", rf"\1: var(--{name})", body)
    pixels = f"{96 * figure.get_size_inches()[0]:.0f}"
    head = f'<svg viewBox="0 0 {width} {height}" style="max-width:{pixels}px" role="img" aria-label="{label}">'
    return head + body.strip()


def save_figure(figure: Figure, path: Path) -> None:
    """Write a PNG at the figure's own resolution; the same figure gives the same bytes."""
    with look():
        figure.savefig(path, format="png", metadata={"Software": None})


def shown(name: object, most: int = 24) -> str:
    """A name as it can be drawn: one line of printable characters, cut in the middle where it is too long."""
    text = "".join(c if c.isprintable() else " " for c in str(name)).strip() or "(no name)"
    if len(text) <= most:
        return text
    head = most // 2
    return f"{text[:head].rstrip()}…{text[len(text) - (most - head - 1) :].lstrip()}"


def log_ticks(axis: Axis, low: float, high: float) -> None:
    """Plain numbers on a logarithmic axis: each decade, with 2 and 5 where there are few decades."""
    few = high < 300 * low
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if few else (1,), numticks=8))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: _plain(value)))


def _plain(value: float) -> str:
    return f"{value:g}" if 1e-3 <= value < 1e5 else exponent(f"{value:.0e}")


def exponent(text: str) -> str:
    """1.5e+06 as 1.5e6, with a true minus sign."""
    mantissa, _, power = text.partition("e")
    return (f"{mantissa}e{int(power)}" if power else mantissa).replace("-", "−")
