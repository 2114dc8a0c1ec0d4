"""One self-contained HTML page about a run: failures first, then doubtful films.

The page holds its pictures as data URIs, has no script and asks nothing from the
network (a content security policy forbids it). A picture is a check box that style
alone makes large. The page is written film by film, so thousands of films need no
more memory than their pictures.
"""

from __future__ import annotations

import math
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import starmap
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from medseg.errors import ConfigError, printable
from medseg.io import atomic

DOUBTFUL = 0.5
_UNSURE = 0.2

_PICTURES = {b"\xff\xd8\xff": "image/jpeg", b"\x89PNG\r\n\x1a\n": "image/png"}

_STYLE = """
:root{color-scheme:light dark;--line:#8884;--soft:#8881}
body{font:14px/1.45 system-ui,sans-serif;margin:0 auto;max-width:1280px;padding:20px}
h1{font-size:22px;margin:0 0 4px}h2{font-size:17px;margin:26px 0 8px}
p{margin:4px 0 10px}.facts{opacity:.75}
table{border-collapse:collapse;width:100%}
th,td{border-bottom:1px solid var(--line);padding:5px 8px;text-align:left;
vertical-align:top;overflow-wrap:anywhere}
ol{list-style:none;margin:0;padding:0;display:grid;gap:12px;
grid-template-columns:repeat(auto-fill,minmax(230px,1fr))}
li{border:1px solid var(--line);border-top:4px solid #5aa469;border-radius:6px;
padding:8px;background:var(--soft);content-visibility:auto;
contain-intrinsic-size:230px 440px}
li.unsure{border-top-color:#e0a526}li.doubtful{border-top-color:#e0524d}
label{display:block;cursor:zoom-in}
label input{position:absolute;opacity:0}
label:focus-within{outline:2px solid #4c9be8}
img{display:block;margin:0 auto 6px;max-width:100%;background:#000}
li:has(:checked){grid-column:1/-1}
:checked+img{width:min(100%,92vh,768px);cursor:zoom-out}
.legend span{white-space:nowrap;margin-right:16px}
.legend span:before{content:"";display:inline-block;width:12px;height:12px;
margin-right:6px;border-radius:2px;background:var(--colour)}
.none{height:90px;line-height:90px;text-align:center;opacity:.6}
.name{font-weight:600;overflow-wrap:anywhere}.note{color:#c1542f;margin:4px 0 0}
dl{display:grid;grid-template-columns:auto auto;gap:0 8px;margin:4px 0 0}
dt{opacity:.7}dd{margin:0;text-align:right;font-variant-numeric:tabular-nums}
"""


@dataclass(frozen=True)
class ReportRow:
    """What the page says about one file.

    Args:
        name: Relative path of the file.
        status: Failed ones go to the table at the top.
        thumbnail: Bytes of a JPEG or PNG.
        measurements: Shown in this order, units in the names; None and NaN are
            shown as a dash.
        doubt: In [0, 1]; the most doubtful come first, those without one last.
        message: Why it failed, or what to look at.

    Raises:
        ConfigError: If ``doubt`` is outside [0, 1] or ``status`` unknown.
    """

    name: str
    status: Literal["done", "skipped", "failed"] = "done"
    thumbnail: bytes | None = None
    measurements: Mapping[str, float | str | None] = field(default_factory=dict)
    doubt: float | None = None
    message: str = ""

    def __post_init__(self) -> None:
        if self.status not in ("done", "skipped", "failed"):
            raise ConfigError(
                "status", f"is {self.status!r}", "Use done, skipped or failed"
            )
        if self.doubt is not None and not 0 <= self.doubt <= 1:
            raise ConfigError("doubt", f"is {self.doubt}", "Use 0 to 1")
        values = MappingProxyType(dict(self.measurements))
        object.__setattr__(self, "measurements", values)


def write_report(
    rows: Sequence[ReportRow],
    path: str | Path,
    *,
    title: str = "medseg report",
    facts: Mapping[str, str] | None = None,
    legend: Mapping[str, str] | None = None,
) -> Path:
    """Write the page, atomically; equal rows give equal bytes.

    Args:
        rows: One a file, in any order.
        path: Of the page.
        title: Its heading.
        facts: About the run (model, version, ...), shown below the heading.
        legend: Names of structures and the colours, #rrggbb, of their outlines.

    Raises:
        ConfigError: If a thumbnail is neither JPEG nor PNG.
        DiskError: If the page cannot be written.
    """
    path = Path(path)
    with atomic.replace_file(path) as part, part.open("wb") as file:
        for piece in page(rows, title=title, facts=facts or {}, legend=legend or {}):
            file.write(piece.encode("utf-8", "backslashreplace"))
    return path


def ordered(rows: Iterable[ReportRow]) -> list[ReportRow]:
    """Return rows with the most doubtful first, those without doubt last, by name."""
    return sorted(rows, key=lambda r: (r.doubt is None, -(r.doubt or 0.0), r.name))


def page(
    rows: Sequence[ReportRow],
    *,
    title: str,
    facts: Mapping[str, str],
    legend: Mapping[str, str],
) -> Iterator[str]:
    """Yield the page piece by piece."""
    failed = sorted((r for r in rows if r.status == "failed"), key=lambda r: r.name)
    shown = ordered(r for r in rows if r.status != "failed")
    yield from _head(title, facts)
    yield f"<p>{_counts(shown, failed)}</p>\n"
    if failed:
        yield from _failures(failed)
    yield "<h2>Files, the most doubtful first</h2>\n"
    yield "<p>The doubt score orders the files; it is not a probability of error. "
    yield f"Cards are green below {_UNSURE}, orange, and red from {DOUBTFUL}. "
    yield "Click a picture to make it large, and again to make it small.</p>\n"
    if legend:
        yield f'<p class="legend">{"".join(starmap(_colour, legend.items()))}</p>\n'
    yield "<ol>\n"
    yield from map(_card, shown)
    yield "</ol>\n</body>\n</html>\n"


def _safe(text: object) -> str:
    """Return text for HTML: control characters visible, markup escaped."""
    return escape(printable(text))


def _head(title: str, facts: Mapping[str, str]) -> Iterator[str]:
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    yield '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
    yield f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
    yield '<meta name="viewport" content="width=device-width">\n'
    yield f"<title>{_safe(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
    yield f"<h1>{_safe(title)}</h1>\n"
    if facts:
        entries = " · ".join(f"{_safe(k)}: {_safe(v)}" for k, v in facts.items())
        yield f'<p class="facts">{entries}</p>\n'


def _colour(name: str, colour: str) -> str:
    return f'<span style="--colour:{_safe(colour)}">{_safe(name)}</span>'


def _counts(shown: Sequence[ReportRow], failed: Sequence[ReportRow]) -> str:
    skipped = sum(r.status == "skipped" for r in shown)
    doubtful = sum(_grade(r) == "doubtful" for r in shown)
    return (
        f"{len(shown) - skipped} done, {len(failed)} failed, {skipped} skipped; "
        f"{doubtful} with a doubt score of {DOUBTFUL} or more."
    )


def _failures(failed: Sequence[ReportRow]) -> Iterator[str]:
    yield f"<h2>Failed: {len(failed)}</h2>\n<table>\n"
    yield "<tr><th>file</th><th>what is wrong</th></tr>\n"
    for row in failed:
        yield f"<tr><td>{_safe(row.name)}</td><td>{_safe(row.message)}</td></tr>\n"
    yield "</table>\n"


def _grade(row: ReportRow) -> str:
    if row.doubt is None or row.doubt < _UNSURE:
        return "sure"
    return "doubtful" if row.doubt >= DOUBTFUL else "unsure"


def _card(row: ReportRow) -> str:
    values: dict[str, float | str | None] = {}
    if row.doubt is not None:
        values["doubt"] = f"{row.doubt:.2f}"
    values |= row.measurements
    entries = "".join(
        f"<dt>{_safe(k)}</dt><dd>{_value(v)}</dd>" for k, v in values.items()
    )
    note = f'<p class="note">{_safe(row.message)}</p>' if row.message else ""
    name = _safe(row.name)
    return (
        f'<li class="{_grade(row)}">{_picture(row)}<div class="name">{name}</div>'
        f"<dl>{entries}</dl>{note}</li>\n"
    )


def _picture(row: ReportRow) -> str:
    if row.thumbnail is None:
        return '<div class="none">no picture</div>'
    for magic, kind in _PICTURES.items():
        if row.thumbnail.startswith(magic):
            data = b64encode(row.thumbnail).decode("ascii")
            image = f'<img alt="" src="data:{kind};base64,{data}">'
            box = f'<input type="checkbox" aria-label="enlarge {_safe(row.name)}">'
            return f"<label>{box}{image}</label>"
    raise ConfigError("thumbnail", f"of {row.name} is no picture", "Give a JPEG or PNG")


def _value(value: float | str | None) -> str:
    """Return a measurement as text: four digits, but whole numbers whole."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "&ndash;"
    if isinstance(value, str):
        return _safe(value)
    if abs(value) >= 1000 or float(value).is_integer():
        return f"{value:,.0f}"
    return f"{value:.4g}"
