"""The one-file HTML page: facts at the top, then sections of text, pictures and tables; nothing is loaded.

A content security policy in the page forbids every request, so that a name in the data can never become one.
"""

import html
import math
import numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from aekit.remote import told
from aekit.reports.style import PALETTE, exponent, svg

_TERMS = {  # parts of the names that figures have, as people write them
    **{"auroc": "AUROC", "f1": "F1", "pca": "PCA", "snr": "SNR", "psnr": "PSNR", "db": "dB", "p": "P", "s": "S"},
    **{"kid": "KID", "lr": "learning rate", "val": "validation", "out": "output"},
}


class Picture(NamedTuple):
    """A figure with the words over and under it; `note` says what one sees."""

    figure: Figure
    title: str = ""
    note: str = ""


class Table(NamedTuple):
    """Rows of cells under a header; numbers are set right, `note` says what one sees."""

    header: Sequence[str]
    rows: Sequence[Sequence[object]]
    note: str = ""


@dataclass(frozen=True)
class Section:
    title: str
    text: str = ""  # paragraphs with an empty line between them
    pictures: Sequence[Picture] = ()
    tables: Sequence[Table] = ()


def page(title: str, facts: Mapping[str, object], sections: Sequence[Section]) -> str:
    """One self-contained HTML page, in light or dark as the reader's system is; the same input gives the same text."""
    contents = "".join(f'<a href="#s{i}">{_escape(section.title)}</a>' for i, section in enumerate(sections))
    body = "".join(_section(i, section) for i, section in enumerate(sections))
    items = "".join(_fact(name, told(number(fact))) for name, fact in facts.items())
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{_escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">"
        f"<style>{_css()}</style></head>\n<body><main><header><h1>{_escape(title)}</h1>"
        + (f"<dl>{items}</dl>" if facts else "")
        + (f"<nav>{contents}</nav>" if len(sections) > 1 else "")
        + f"</header>\n{body}</main></body></html>\n"
    )


def number(value: object) -> str:
    """A value as text: whole numbers with their thousands apart, others to four figures, a dash for none."""
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, list | tuple | set):
        return ", ".join(number(part) for part in value)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, numbers.Integral):
        return f"{int(value):,}".replace("-", "−")
    if isinstance(value, float):
        if value == 0 or not math.isfinite(value) or not 1e-4 <= abs(value) < 1e6:
            return exponent(f"{value:.3g}")
        return f"{value:,.{max(0, 3 - math.floor(math.log10(abs(value))))}f}".replace("-", "−")
    return str(value)


def _escape(text: object) -> str:
    """Safe between tags and in attributes; what UTF-8 cannot hold (half a file name) becomes a question mark."""
    return html.escape(str(text).encode("utf-8", "replace").decode())


def _fact(name: str, text: str) -> str:
    long = ' class="long"' if len(text) > 16 else ""
    words = " ".join(_TERMS.get(part, part) for part in name.split("_"))
    return f"<div{long}><dt>{_escape(words)}</dt><dd>{_escape(text)}</dd></div>"


def _section(i: int, section: Section) -> str:
    text = "".join(f"<p>{_escape(part)}</p>" for part in section.text.split("\n\n") if part.strip())
    pictures = "".join(_picture(f"{i}.{j}", picture) for j, picture in enumerate(section.pictures))
    tables = "".join(_table(table) for table in section.tables)
    return (
        f'<section id="s{i}"><h2>{_escape(section.title)}</h2>{text}'
        + (f'<div class="cards">{pictures}{tables}</div>' if pictures or tables else "")
        + "</section>\n"
    )


def _picture(salt: str, picture: Picture) -> str:
    title = f"<h3>{_escape(picture.title)}</h3>" if picture.title else ""
    note = f"<figcaption>{_escape(picture.note)}</figcaption>" if picture.note else ""
    drawing = svg(picture.figure, salt, _escape(picture.title or picture.note))
    return f"<figure>{title}{drawing}{note}</figure>\n"


def _table(table: Table) -> str:
    def cell(value: object, tag: str = "td", numeric: bool = False) -> str:
        place = ' class="n"' if numeric else ""
        return f"<{tag}{place}>{_escape(number(value))}</{tag}>"

    def numeric(value: object) -> bool:
        return value is None or isinstance(value, numbers.Real | np.number)

    columns = range(len(table.header))
    aligned = [all(numeric(row[j]) for row in table.rows) and bool(table.rows) for j in columns]
    head = "".join(cell(name, "th", aligned[j]) for j, name in enumerate(table.header))
    rows = "".join(f"<tr>{''.join(cell(value, 'td', numeric(value)) for value in row)}</tr>\n" for row in table.rows)
    note = f"<figcaption>{_escape(table.note)}</figcaption>" if table.note else ""
    scroll = '<div class="scroll" tabindex="0">'
    wide = ' class="wide"' if len(table.header) > 3 else ""
    body = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    return f"<figure{wide}>{scroll}{body}</div>{note}</figure>\n"


def _css() -> str:
    light, dark = (";".join(f"--{name}:{colours[i]}" for name, colours in PALETTE.items()) for i in (0, 1))
    return f":root{{{light}}}@media(prefers-color-scheme:dark){{:root{{{dark}}}}}{_RULES}"


_RULES = """
*{box-sizing:border-box}
html{color-scheme:light dark;-webkit-text-size-adjust:100%;text-size-adjust:100%}
body{margin:0;background:var(--page);color:var(--ink);
font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
main{max-width:1152px;margin:0 auto;padding:40px 24px 72px}
h1{font-size:30px;line-height:1.2;letter-spacing:-.015em;margin:0 0 20px;overflow-wrap:anywhere}
h2{font-size:21px;line-height:1.3;letter-spacing:-.01em;margin:0 0 6px;overflow-wrap:anywhere}
h3{font-size:14px;line-height:1.35;margin:0 0 8px;overflow-wrap:anywhere}
p{max-width:70ch;margin:0 0 12px;color:var(--muted);overflow-wrap:anywhere}
dl{display:grid;grid-template-columns:repeat(auto-fill,minmax(150px,1fr));gap:14px 24px;margin:0;
padding:16px 0;border-top:1px solid var(--line);border-bottom:1px solid var(--line)}
dt{font-size:13px;color:var(--muted)}
dd{margin:0;font-weight:600;font-variant-numeric:tabular-nums;overflow-wrap:anywhere}
nav{display:flex;flex-wrap:wrap;gap:4px 20px;margin-top:14px;font-size:14px}
a{color:var(--blue);text-decoration:none}a:hover{text-decoration:underline}
section{margin-top:48px}
.cards{display:grid;gap:16px;grid-template-columns:repeat(auto-fill,minmax(min(100%,340px),1fr));
align-items:start;margin-top:16px}
.wide{grid-column:1/-1;justify-self:start;max-width:100%}
figure{margin:0;padding:14px;background:var(--card);border:1px solid var(--line);border-radius:10px;min-width:0}
svg{display:block;width:100%;height:auto;margin:0 auto;overflow:visible}
svg *{stroke-linejoin:round;stroke-linecap:butt}
figcaption{font-size:13px;line-height:1.45;color:var(--muted);margin-top:8px;overflow-wrap:anywhere}
.scroll{overflow:auto;max-height:480px}
table{border-collapse:collapse;font-size:14px;font-variant-numeric:tabular-nums}
th,td{padding:5px 14px 5px 0;text-align:left;border-bottom:1px solid var(--line);white-space:nowrap}
td:first-child,th:first-child{max-width:320px;overflow:hidden;text-overflow:ellipsis}
thead th{position:sticky;top:0;background:var(--card);color:var(--muted);font-weight:600;white-space:normal;
vertical-align:bottom}
tbody tr:last-child td{border-bottom:0}
.n{text-align:right;padding-left:14px;padding-right:0}
@media(min-width:400px){.long{grid-column:span 2}}
@media(max-width:520px){main{padding:24px 14px 48px}h1{font-size:24px}section{margin-top:36px}figure{padding:12px}}
@media print{body{background:none}figure{break-inside:avoid}.scroll{max-height:none}}
""".strip().replace("\n", "")
