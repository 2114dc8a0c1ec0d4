"""Refusing a malformed file takes neither long nor much memory."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import malformed_dicom
import pytest
from malformed import FILES

if TYPE_CHECKING:
    from pathlib import Path

REJECT = [
    case
    for case in (*FILES, *malformed_dicom.FILES, *malformed_dicom.SERIES)
    if case.verdict == "reject"
]
SECONDS = 5
MEGABYTES = 600

# Each file has a process of its own, forked from one that has all imported.
CHILD = """
import json, os, sys, warnings
from pathlib import Path
from medseg.errors import FileError
from medseg.io import read_image
import imagecodecs, nibabel, pydicom, PIL.Image, tifffile
warnings.simplefilter("ignore")
for line in sys.stdin:
    pid = os.fork()
    if not pid:
        try:
            read_image(Path(json.loads(line)))
        except FileError:
            os._exit(0)
        except BaseException:
            os._exit(2)
        os._exit(1)
    status, used = os.wait4(pid, 0)[1:]
    print(json.dumps([status, used.ru_utime + used.ru_stime, used.ru_maxrss / 1000]))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts as Linux does")
def test_a_refusal_costs_little(tmp_path: Path) -> None:
    paths = []
    for number, case in enumerate(REJECT):
        (tmp_path / str(number)).mkdir()
        paths.append(case.make(tmp_path / str(number)))
    done = subprocess.run(
        [sys.executable, "-P", "-c", CHILD],
        input="".join(f"{json.dumps(str(path))}\n" for path in paths),
        capture_output=True,
        text=True,
        check=True,
    )
    used = [json.loads(line) for line in done.stdout.splitlines()]
    costs = {case.id: cost for case, cost in zip(REJECT, used, strict=True)}
    dear = {
        name: cost
        for name, cost in costs.items()
        if cost[0] or cost[1] > SECONDS or cost[2] > MEGABYTES
    }
    assert not dear
