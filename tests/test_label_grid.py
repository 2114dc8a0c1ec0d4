"""A text grid is read as it stands, or refused with the place of its fault."""

from __future__ import annotations

import numpy as np
import pytest

from medseg.errors import FileError
from medseg.io.label_grid import read_label_grid

CLASSES = {1: "wall", 2: "door", 3: "roof", 4: "path", 5: "sky"}
# Twelve rows of nine: sky, a roof, a wall with a door, a path.
ROWS = [
    *["5 5 5 5 5 5 5 5 5"] * 3,
    "5 5 5 3 3 3 5 5 5",
    "5 5 3 3 3 3 3 5 5",
    "5 3 3 3 3 3 3 3 5",
    *["5 1 1 1 1 1 1 1 5"] * 2,
    *["5 1 1 2 2 1 1 1 5"] * 2,
    *["4 4 4 4 4 4 4 4 4"] * 2,
]
COUNTS = {1: 24, 2: 4, 3: 15, 4: 18, 5: 47}


def written(tmp_path, rows, encoding="utf-8"):
    path = tmp_path / "grid.txt"
    path.write_bytes("\n".join(rows).encode(encoding))
    return path


def test_a_grid_is_read_cell_by_cell(tmp_path):
    path = written(tmp_path, ROWS)
    labels = read_label_grid(path, CLASSES)
    assert (labels == np.loadtxt(path, int)).all()
    assert labels.shape == (12, 9)
    # Counts of the classes add up to the cells.
    values, counts = np.unique(labels, return_counts=True)
    assert dict(zip(values.tolist(), counts.tolist(), strict=True)) == COUNTS
    assert sum(COUNTS.values()) == labels.size


def test_tabs_empty_lines_and_foreign_line_ends_do_not_matter(tmp_path):
    expected = read_label_grid(written(tmp_path, ROWS), CLASSES)
    rows = ["", *(row.replace(" ", "\t") + " \r" for row in ROWS), ""]
    path = written(tmp_path, rows, "utf-8-sig")
    assert (read_label_grid(path, list(CLASSES)) == expected).all()


@pytest.mark.parametrize("row", [0, 4, 11])
@pytest.mark.parametrize(("change", "found"), [(-1, 8), (1, 10)])
def test_a_row_of_another_length_is_named(tmp_path, row, change, found):
    cells = ROWS[row].split()
    rows = ROWS.copy()
    rows[row] = " ".join(cells[:-1] if change < 0 else [*cells, "5"])
    problem = rf"grid\.txt: line {row + 1} \(row {row}\) has {found} values.*have 9\."
    with pytest.raises(FileError, match=problem):
        read_label_grid(written(tmp_path, rows), CLASSES)


@pytest.mark.parametrize("cell", ["6", "0", "x", "1.0", "01", "-1"])
def test_an_unknown_class_is_named_with_its_row_and_column(tmp_path, cell):
    rows = ["", *ROWS]  # an empty line: row 3 is in line 5
    rows[4] = f"5 5 {cell} 3 3 3 5 5 5"
    problem = rf"line 5 \(row 3\), column 2: '{cell}' is no class\. Use 1, 2, 3, 4, 5"
    with pytest.raises(FileError, match=problem):
        read_label_grid(written(tmp_path, rows), CLASSES)


def test_what_is_no_grid_is_refused(tmp_path):
    with pytest.raises(FileError, match="has no rows"):
        read_label_grid(written(tmp_path, ["", " "]), CLASSES)
    with pytest.raises(FileError, match="cannot be opened: No such file"):
        read_label_grid(tmp_path / "none.txt", CLASSES)
    path = tmp_path / "grid.txt"
    path.write_bytes(b"5 5\xff 5")
    with pytest.raises(FileError, match=r"not a text file \(byte 3 is no UTF-8\)"):
        read_label_grid(path, CLASSES)
    with path.open("wb") as stream:
        stream.truncate(2**26 + 1)
    with pytest.raises(FileError, match="is 67108865 bytes, a label grid has at most"):
        read_label_grid(path, CLASSES)
