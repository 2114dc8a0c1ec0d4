"""Options of the subcommands, each declared once, and what their texts mean."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from medseg.errors import ConfigError

if TYPE_CHECKING:
    from medseg.labels import LabelSet
    from medseg.measure.tracks import Scale

Inputs = Annotated[
    list[Path], typer.Argument(metavar="IN...", help="Images, folders, DICOM series.")
]
Out = Annotated[Path, typer.Option("-o", "--out", help="Output folder.")]
ModelNames = Annotated[
    list[str],
    typer.Option(
        "--model", metavar="NAME_OR_DIR", help="Shipped name or folder; more: ensemble."
    ),
]
EngineName = Annotated[
    Literal["auto", "torch", "openvino"], typer.Option(help="What runs the network.")
]
DeviceName = Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where.")]
Workers = Annotated[
    int,
    typer.Option(
        min=0,
        max=64,
        help="Reader threads, and as many writer threads, beside the one that runs "
        "the network; 0: one file after the other in one thread.",
    ),
]
Dask = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="Run on this Dask cluster, a task a file; its workers take the place of "
        "--workers.",
    ),
]
Format = Annotated[
    Literal["same", "nii.gz", "tif", "png", "dcm-seg"],
    typer.Option(
        "--format",
        help="Of the masks; same: that of the image, but .nii.gz for DICOM and, as "
        "chest structures overlap and a PNG holds no layers, .tif for PNG and JPEG.",
    ),
]
Threads = Annotated[
    int | None, typer.Option(min=1, help="Processor threads of the network.")
]
CellDiameter = Annotated[
    str,
    typer.Option(
        "--diameter",
        metavar="auto|native|PIXELS",
        help="Of the cells: found by itself, the size that the model learnt, or given.",
    ),
]
SplitLabels = Annotated[
    bool, typer.Option("--split-labels", help="One mask file a structure.")
]
Probabilities = Annotated[
    bool, typer.Option("--probabilities", help="Also write probability maps.")
]
Uncertainty = Annotated[
    bool, typer.Option("--uncertainty", help="Also write uncertainty maps.")
]
TestTimeAugmentation = Annotated[
    bool, typer.Option("--test-time-augmentation", help="Average over flips.")
]
Report = Annotated[bool, typer.Option("--report", help="Also write report.html.")]
AnonymousNames = Annotated[
    bool, typer.Option("--anonymous-names", help="Numbers in place of file names.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Do every file again.")]
Verify = Annotated[
    bool, typer.Option("--verify", help="Check finished masks by their hash.")
]
Isolate = Annotated[
    bool,
    typer.Option(
        "--isolate",
        help="Read files in child processes, with a time limit: a file that "
        "crashes or hangs its reader costs that file alone. Slower.",
    ),
]
Sha256 = Annotated[
    str | None,
    typer.Option(
        metavar="HASH",
        help="Stop unless the SHA-256 of the model's weights.safetensors is this "
        "one: 64 digits, as 'medseg models show' prints. For one --model.",
    ),
]

# Movies
MovieFrames = Annotated[
    Path,
    typer.Argument(metavar="SEQUENCE", help="Folder of frames, or a paged TIFF."),
]
Result = Annotated[Path, typer.Option("-o", "--out", help="Result, such as 01_RES.")]
CellModels = Annotated[
    list[str] | None,
    typer.Option("--model", metavar="NAME_OR_DIR", help="Finds the single cells."),
]
Masks = Annotated[
    Path | None, typer.Option(help="Link these instance masks; no model runs.")
]
Spacing = Annotated[
    str | None,
    typer.Option(
        "--spacing",
        metavar="[Z,]Y,X",
        help="Micrometres between pixels: 0.65,0.65. Default: what the movie states.",
    ),
]
Interval = Annotated[
    float | None,
    typer.Option("--frame-interval", metavar="SECONDS", help="Between two frames."),
]
MaxDistance = Annotated[
    float | None, typer.Option(help="Of a link, in pixels; else estimated.")
]
MaxGap = Annotated[
    int | None, typer.Option(min=0, help="Frames a cell may be missing.")
]
Divisions = Annotated[
    bool, typer.Option("--divisions/--no-divisions", help="Whether cells divide.")
]
Fill = Annotated[
    bool, typer.Option("--fill/--no-fill", help="Draw masks into closed gaps.")
]
Tables = Annotated[
    bool, typer.Option("--tables", help="Also cells.csv, tracks.csv, counts.csv.")
]
Pictures = Annotated[
    bool, typer.Option("--pictures", help="Also curves.png and lineage.png.")
]
Geff = Annotated[
    bool, typer.Option("--geff", help="Also tracks.geff, the lineage for others.")
]
Outlines = Annotated[
    bool, typer.Option("--report", help="Also outlines over every frame.")
]
OverwriteFrames = Annotated[
    bool, typer.Option("--overwrite", help="Do every frame again.")
]

# Scores
Structures = Annotated[
    list[str] | None,
    typer.Option(
        "--labels",
        metavar="NAME,NAME",
        help="Structures, with commas or given again; also lungs (both). Default: all.",
    ),
]
Names = Annotated[
    str | None,
    typer.Option(
        "--names",
        metavar="VALUE=NAME,...",
        help="What the values of a mask mean that does not say so itself: "
        "1=right_lung,2=left_lung. Or cells: a number a cell.",
    ),
]
Numbers = Annotated[
    Path | None, typer.Option("--json", help="Also write all numbers here.")
]
MaskSpacing = Annotated[
    tuple[float, float] | None,
    typer.Option(metavar="Y X", help="mm, where the masks state none."),
]
Ctc = Annotated[
    bool, typer.Option("--ctc", help="Cell movies: SEG, DET, TRA; folders 01_RES.")
]
Errors = Annotated[
    Path | None,
    typer.Option("--errors", help="With --ctc: a .csv file of every single error."),
]
Frames = Annotated[
    str | None,
    typer.Option(metavar="FIRST-LAST", help="With --ctc: score these frames alone."),
]
OnlyPredicted = Annotated[
    bool,
    typer.Option("--only-predicted", help="Leave out cases without a prediction."),
]


def parse_diameter(text: str) -> float | Literal["auto", "native"]:
    """Return what ``auto``, ``native`` or a number of pixels means.

    Raises:
        ConfigError: If it is none of them.
    """
    if text == "auto":
        return "auto"
    if text == "native":
        return "native"
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 1 <= number <= 4096:
        remedy = "Give auto, native or 1 to 4096 pixels"
        raise ConfigError("--diameter", f"is {text!r}", remedy)
    return number


def parse_names(text: str | None) -> LabelSet | None:
    """Return the labels that ``1=liver,2=tumour`` or ``cells`` means.

    Raises:
        ConfigError: If it is anything else.
    """
    from medseg.labels import GREY, Label, LabelSet, cell_labels

    if text is None:
        return None
    if text.strip() == "cells":
        return cell_labels()
    found = [re.fullmatch(r"\s*(\d{1,9})\s*=\s*(\S+)\s*", x) for x in text.split(",")]
    pairs = [x.groups() for x in found if x]
    if len(pairs) < len(found):
        remedy = "Give a value and a name each, as 1=liver,2=tumour, or cells"
        raise ConfigError("--names", f"is {text!r}", remedy)
    return LabelSet(tuple(Label(int(v), name, GREY) for v, name in pairs))


def parse_structures(texts: Sequence[str] | None) -> tuple[str, ...] | None:
    """Return names given with commas, given again, or both; None for none."""
    names = (name.strip() for text in texts or () for name in text.split(","))
    return tuple(name for name in names if name) or None


def scale(spacing: str | None, frame_interval: float | None) -> Scale:
    """Return the scale that the options give.

    Raises:
        ConfigError: If the spacing is not two or three numbers above 0.
    """
    from medseg.measure.tracks import Scale

    steps = None
    if spacing is not None:
        try:
            steps = tuple(float(x) for x in spacing.split(","))
        except ValueError:
            steps = ()
        if len(steps) not in (2, 3):
            raise ConfigError(
                "--spacing",
                f"is {spacing!r}",
                "Give two or three numbers, as 0.65,0.65",
            )
    return Scale(steps, frame_interval)


def parse_frames(text: str | None) -> tuple[int, int] | None:
    """Return the frames that ``FIRST-LAST`` means, both included.

    Raises:
        ConfigError: If it is anything else.
    """
    if text is None:
        return None
    first, _, last = text.partition("-")
    if not (first.isdecimal() and last.isdecimal() and int(first) <= int(last)):
        raise ConfigError("--frames", f"is {text!r}", "Give FIRST-LAST, as 44-64")
    return int(first), int(last)


def refuse(options: Mapping[str, object], problem: str, remedy: str) -> None:
    """Refuse the first option that is given: it would do nothing.

    Raises:
        ConfigError: If one is; names it.
    """
    for name, value in options.items():
        if value:
            raise ConfigError(name, problem, remedy)
