"""Draw the picture of docs/folders.md: the report of a folder of drawn films.

    xvfb-run -a -s "-screen 0 1280x900x24" python docs/report_picture.py

runs ``medseg predict --report`` on twelve drawn films, one of them cut off below the
lungs and one damaged, and writes ``docs/images/report.png``.
"""

from __future__ import annotations

import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image as PillowImage
from qtpy.QtCore import QUrl
from qtpy.QtWebEngineWidgets import QWebEngineView
from qtpy.QtWidgets import QApplication

from medseg.batch import BatchOptions, run_batch
from medseg.datasets.synthetic import write_films
from medseg.model import load_model
from medseg.predict import Predictor

PICTURE = Path(__file__).parent / "images" / "report.png"
SIZE = (1200, 860)


def make_report(folder: Path) -> Path:
    """Segment drawn films and return the page."""
    write_films(folder / "films", 10, seed=4)
    films = sorted((folder / "films" / "images").glob("*.png"))
    cut = np.array(PillowImage.open(films[0]))
    PillowImage.fromarray(cut[: len(cut) // 2]).save(films[0].with_name("cut.png"))
    films[1].with_name("damaged.png").write_bytes(films[1].read_bytes()[:5000])
    predictor = Predictor(load_model("chest-xray"))
    run_batch([films[0].parent], folder / "out", predictor, BatchOptions(report=True))
    return folder / "out" / "report.html"


def settle(seconds: float) -> None:
    """Let the page draw itself."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        QApplication.processEvents()
        time.sleep(0.01)


def main() -> None:
    """Write the picture."""
    with TemporaryDirectory() as folder:
        page = make_report(Path(folder))
        app = QApplication.instance() or QApplication([])
        view = QWebEngineView()
        view.resize(*SIZE)
        view.load(QUrl.fromLocalFile(str(page)))
        view.show()
        settle(8)
        view.grab().save(str(PICTURE))
        view.close()
        app.quit()


if __name__ == "__main__":
    main()
