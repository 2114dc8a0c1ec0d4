"""The report page: order, escaping, nothing from outside, thousands of files."""

from __future__ import annotations

import math
import re
import tracemalloc
from html.parser import HTMLParser

import numpy as np
import pytest

from medseg.batch.report import ReportRow, ordered, write_report
from medseg.errors import ConfigError
from medseg.image import Image
from medseg.overlay import encode, thumbnail

GREY = Image.from_array(np.arange(64, dtype=np.uint8).reshape(1, 8, 8))
JPEG = thumbnail(GREY)

VOID = {"meta", "img", "input"}


class Checker(HTMLParser):
    """Checks that tags nest and gathers text, tags and attributes."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.texts = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.texts.append(data.strip())


def page_of(tmp_path, rows, **options):
    path = write_report(rows, tmp_path / "report.html", **options)
    checker = Checker()
    checker.feed(path.read_text(encoding="utf-8"))
    assert checker.open == []
    return checker


def test_the_most_doubtful_come_first_and_failures_before_all(tmp_path):
    rows = [
        ReportRow("sure.png", doubt=0.01),
        ReportRow("unknown.png"),
        ReportRow("z.png", doubt=0.9),
        ReportRow("a.png", doubt=0.9),
        ReportRow("broken.png", "failed", message="broken.png: cut short."),
    ]
    text = page_of(tmp_path, rows).texts
    names = [t for t in text if t.endswith(".png")]
    assert names == ["broken.png", "a.png", "z.png", "sure.png", "unknown.png"]
    assert "broken.png: cut short." in text
    assert "4 done, 1 failed, 0 skipped; 2 with a doubt score of 0.5 or more." in text


def test_order_does_not_depend_on_the_order_of_the_rows():
    rows = [ReportRow(f"{i}.png", doubt=i % 3 / 2) for i in range(9)]
    assert ordered(rows) == ordered(rows[::-1])


def test_measurements_are_shown_and_what_is_undefined_is_a_dash(tmp_path):
    row = ReportRow(
        "a.png",
        thumbnail=JPEG,
        measurements={
            "CTR": 0.46154,
            "area mm2": 12345.678,
            "width px": 60,
            "unit": "px",
            "heart": math.nan,
            "lung": None,
        },
        doubt=0.256,
        message="heart is in 2 pieces",
    )
    text = page_of(tmp_path, [row]).texts
    values = ["0.26", "0.4615", "12,346", "60", "px", "\u2013", "\u2013"]
    assert [t for t in text if t in values] == values
    assert "heart is in 2 pieces" in text


def test_names_and_messages_cannot_become_markup(tmp_path):
    bad = "<script>alert(1)</script>&\"'\x1b[31m\u202e\ud800.png"
    rows = [
        ReportRow(bad, thumbnail=JPEG, message=bad, measurements={bad: bad}),
        ReportRow(bad, "failed", message=bad),
    ]
    page = page_of(tmp_path, rows, title=bad, facts={bad: bad})
    assert "script" not in {tag for tag, _ in page.tags}
    shown = [t for t in page.texts if t.startswith("<script>")]
    assert len(shown) >= 6
    assert all("\x1b" not in t and "\u202e" not in t for t in shown)


def test_nothing_comes_from_outside(tmp_path):
    rows = [ReportRow("a.png", thumbnail=JPEG), ReportRow("b.png")]
    page = page_of(tmp_path, rows, facts={"model": "chest-xray"})
    sources = [a["src"] for tag, a in page.tags if tag == "img"]
    assert [s[:23] for s in sources] == ["data:image/jpeg;base64,"]
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe", "a"}
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"https?:|url\(|@import", text)
    assert "default-src 'none'" in text


def test_a_picture_can_be_enlarged_without_a_script(tmp_path):
    rows = [ReportRow('<"a".png', thumbnail=JPEG), ReportRow("b.png")]
    page = page_of(tmp_path, rows)
    inside = [tag for tag, _ in page.tags if tag in ("label", "input", "img")]
    assert inside == ["label", "input", "img"]
    (box,) = [a for tag, a in page.tags if tag == "input"]
    assert box == {"type": "checkbox", "aria-label": 'enlarge <"a".png'}
    assert ":checked+img{width:" in (tmp_path / "report.html").read_text("utf-8")


def test_the_legend_names_every_colour(tmp_path):
    legend = {"right lung": "#4c9be8", "<b>": "#000000"}
    page = page_of(tmp_path, [ReportRow("a.png")], legend=legend)
    colours = [a["style"] for tag, a in page.tags if tag == "span"]
    assert colours == ["--colour:#4c9be8", "--colour:#000000"]
    assert [t for t in page.texts if t in legend] == list(legend)
    assert "span" not in {tag for tag, _ in page_of(tmp_path, []).tags}


def test_png_thumbnails_are_taken_too(tmp_path):
    row = ReportRow("a.png", thumbnail=encode(np.zeros((4, 4, 3), np.uint8)))
    page = page_of(tmp_path, [row])
    (source,) = [a["src"] for tag, a in page.tags if tag == "img"]
    assert source.startswith("data:image/png;base64,")


def test_equal_rows_give_equal_bytes(tmp_path):
    rows = [ReportRow(f"{i}.png", thumbnail=JPEG, doubt=0.5) for i in range(5)]
    one = write_report(rows, tmp_path / "one.html").read_bytes()
    two = write_report(rows[::-1], tmp_path / "two.html").read_bytes()
    assert one == two


def test_an_empty_run_gives_a_page(tmp_path):
    assert any(t.startswith("0 done, 0 failed") for t in page_of(tmp_path, []).texts)


def test_thousands_of_files_are_written_one_by_one(tmp_path):
    rows = [ReportRow(f"{i:05}.png", thumbnail=JPEG, doubt=0.5) for i in range(3000)]
    tracemalloc.start()
    path = write_report(rows, tmp_path / "report.html")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert path.stat().st_size > 1_500_000
    assert peak < 500_000


@pytest.mark.parametrize(
    ("call", "cause"),
    [
        (lambda p: ReportRow("a", doubt=1.5), "doubt: is 1.5"),
        (lambda p: ReportRow("a", doubt=math.nan), "doubt: is nan"),
        (lambda p: ReportRow("a", "late"), "status: is 'late'"),
        (
            lambda p: write_report([ReportRow("a", thumbnail=b"GIF89a")], p),
            "no picture",
        ),
    ],
)
def test_what_is_refused_leaves_no_file(tmp_path, call, cause):
    path = tmp_path / "report.html"
    with pytest.raises(ConfigError, match=cause):
        call(path)
    assert list(tmp_path.iterdir()) == []
