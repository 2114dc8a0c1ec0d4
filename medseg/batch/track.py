"""A movie to masks by track number and a track table: resumable, checked, atomic.

read -> predict -> instance masks in ``RES/.medseg-work`` (journal with hashes)
-> link -> fill gaps -> masks by track number and ``res_track.txt`` in
``RES/.medseg-work/result`` -> validate -> move to ``RES`` -> remove the work folder.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg import __version__
from medseg.batch import tables
from medseg.batch.job import StagedPredictor
from medseg.batch.journal import hash_config, hash_file
from medseg.batch.lock import hold
from medseg.batch.session import Listener, Progress
from medseg.batch.track_extras import Result, write_extras
from medseg.batch.track_frames import FrameRun, Frames, Segmented, hash_pixels
from medseg.batch.track_size import size_of_movie
from medseg.errors import DiskError, PlanError
from medseg.geometry import Geometry
from medseg.io.atomic import remove_stale, write_error
from medseg.io.ctc import validate_result, write_mask_file, write_track_table
from medseg.io.movie import Movie, open_movie
from medseg.lineage import TrackGraph
from medseg.measure.tracks import Scale
from medseg.track import (
    Fill,
    LinkParameters,
    estimate_parameters,
    fill_gaps,
    link_cells,
    observe,
    relabel,
)
from medseg.track.parameters import check_parameters

WORK_NAME = ".medseg-work"
TABLE_NAME = "res_track.txt"


@dataclass(frozen=True)
class TrackOptions:
    """How a movie is tracked.

    Args:
        link: Values of `LinkParameters` that are not estimated from the movie.
        fill: Whether gaps are filled with masks; see `medseg.track.fill`.
        scale: Micrometres and seconds, for tables and for anisotropic frames.
        tables: Also write ``cells.csv``, ``tracks.csv`` and ``counts.csv``.
        pictures: Also write ``curves.png`` and ``lineage.png``.
        geff: Also write ``tracks.geff``.
        report: Also write ``report/tNNN.png``, outlines over every frame.
        overwrite: Do everything again, also over a result of another program.

    Raises:
        ConfigError: If a link parameter is unknown or out of range.
    """

    link: Mapping[str, Any] = field(default_factory=dict)
    fill: bool = True
    scale: Scale = field(default_factory=Scale)
    tables: bool = False
    pictures: bool = False
    geff: bool = False
    report: bool = False
    overwrite: bool = False

    def __post_init__(self) -> None:
        check_parameters(self.link)
        object.__setattr__(self, "link", MappingProxyType(dict(self.link)))

    def config(self) -> dict[str, Any]:
        """Return the options that change the bytes of the results."""
        return {
            "link": dict(self.link),
            "fill": self.fill,
            "spacing": self.scale.spacing and list(self.scale.spacing),
            "frame_interval": self.scale.frame_interval,
            "extras": [
                name
                for name in ("tables", "pictures", "geff", "report")
                if getattr(self, name)
            ],
        }


@dataclass(frozen=True)
class TrackSummary:
    """How a run ended.

    Args:
        done: Frames segmented (or read, without a model) in this run.
        skipped: Frames that were done already.
        errors: One line for each frame that failed; then nothing was linked.
        facts: What is in ``medseg-run.json``; empty where frames failed.
    """

    done: int
    skipped: int
    errors: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.done} done, {len(self.errors)} failed, {self.skipped} skipped"


def track_movie(
    sequence: Path | str,
    out: Path | str,
    predictor: StagedPredictor | None,
    options: TrackOptions | None = None,
    progress: Listener | None = None,
    *,
    masks: Path | str | None = None,
) -> TrackSummary:
    """Segment and link a movie; write a result that the challenge accepts.

    Args:
        sequence: Folder of frames, or a multi-page TIFF.
        out: Result folder, such as ``01_RES``.
        predictor: Of a model with instance labels; None with ``masks``.
        options: How.
        progress: Called after each frame.
        masks: Folder of instance masks to link; then no network runs.

    Raises:
        PlanError: If ``out`` is an input, or holds a result of another program.
        ConfigError: If a link parameter is unknown or out of range, or the model
            gives no instances.
        FileError: If the movie cannot be opened, or the result would not be valid.
        LockedError: If another run holds ``out``.
        DiskError: If the disk is full or not writable.
        KeyboardInterrupt: If the user stopped it; a rerun resumes.
    """
    out, options = Path(out), options or TrackOptions()
    movie = open_movie(Path(sequence))
    drawn = open_movie(Path(masks)) if masks is not None else None
    _check_out(out, [Path(p) for p in (sequence, masks) if p is not None], options)
    _make(out)
    with hold(out):
        remove_stale(out)
        return _Run(movie, drawn, out, predictor, options, progress or _silent).go()


def _check_out(out: Path, inputs: list[Path], options: TrackOptions) -> None:
    if out.exists() and not out.is_dir():
        raise PlanError(out, "is a file, not a folder", "Give an output folder")
    for path in inputs:
        if out.is_dir() and path.is_dir() and os.path.samefile(out, path):
            raise PlanError(
                out, "is also an input folder", "Give another output folder"
            )
    ours = (out / tables.RUN_NAME).exists() or (out / WORK_NAME).exists()
    if options.overwrite or ours or not out.is_dir():
        return
    if any(out.glob("mask*.tif")) or (out / TABLE_NAME).exists():
        raise PlanError(
            out,
            "holds a result that medseg track has not written",
            "Give another folder, or add --overwrite",
        )


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DiskError(
            folder, f"cannot be made ({error.strerror})", "Choose another folder"
        ) from error


def _silent(progress: Progress) -> None:
    pass


class _Run:
    """One run over one movie, while its output folder is held."""

    def __init__(
        self,
        movie: Movie,
        drawn: Frames | None,
        out: Path,
        predictor: StagedPredictor | None,
        options: TrackOptions,
        progress: Listener,
    ) -> None:
        self.movie, self.drawn, self.out = movie, drawn, out
        self.predictor, self.options, self.progress = predictor, options, progress
        self.work = out / WORK_NAME
        self._frames: FrameRun | None = None
        self._cell_size: dict[str, Any] = {}

    def go(self) -> TrackSummary:
        """Run what is not done yet."""
        finished = None if self.options.overwrite else self._finished()
        if finished is not None:
            return TrackSummary(0, len(self.movie.frames), facts=finished)
        _make(self.work)
        segmented = self._segment()
        if segmented.errors:
            return TrackSummary(segmented.done, segmented.skipped, segmented.errors)
        facts = self._link(segmented)
        return TrackSummary(segmented.done, segmented.skipped, facts=facts)

    def _config(self) -> dict[str, Any]:
        """Return all that decides the result but the pixels, as plain data."""
        facts = dict(self.predictor.describe()) if self.predictor else {}
        facts.pop("versions", None)
        return {
            "medseg": __version__,
            "predictor": facts,
            "options": self.options.config(),
        }

    def _finished(self) -> dict[str, Any] | None:
        """Return the record of an earlier run that needs nothing, else None."""
        if self.work.exists():
            return None
        try:
            facts = json.loads((self.out / tables.RUN_NAME).read_text())
            outputs = dict(facts["outputs"])
            same = facts["config_sha256"] == hash_config(self._config())
        except (OSError, ValueError, KeyError, TypeError):
            return None
        if not same:
            return None
        for name, digest in outputs.items():
            path = self.out / name
            if not path.is_file() or hash_file(path) != digest:
                return None
        if facts.get("input_sha256") != _digest(self._read_inputs()):
            return None
        return facts

    def _read_inputs(self) -> dict[int, str]:
        source = self.drawn or self.movie
        return {
            number: hash_pixels(source.read(i).pixels)
            for i, number in enumerate(source.frames)
        }

    def _segment(self) -> Segmented:
        if self.drawn is not None:
            inputs = self._read_inputs()
            return Segmented(len(inputs), 0, (), inputs)
        if self.predictor is None:
            raise PlanError("model", "is not given", "Give --model or --masks")
        predictor = self.predictor
        if predictor.looks_for_size:
            size = size_of_movie(self.movie, self.work, predictor)
            self._cell_size = {
                "diameter": size.diameter,
                "diameter_from": size.origin,
            }
            predictor = predictor.sized(size)
        self._frames = FrameRun(self.movie, self.work, predictor, self.progress)
        return self._frames.run()

    def _masks(self) -> Iterator[tuple[int, NDArray[Any]]]:
        if self._frames is not None:
            yield from self._frames.masks()
        elif self.drawn is not None:
            for i, number in enumerate(self.drawn.frames):
                yield number, self.drawn.read(i).pixels[0]

    def _link(self, segmented: Segmented) -> dict[str, Any]:
        """Link, write, validate, move into place; return the record of the run."""
        cells = observe(self._masks())
        spacing = link_spacing(self.movie.geometry, self.options.scale)
        parameters = estimate_parameters(cells, spacing, **self.options.link)
        graph, fills = link_cells(cells, parameters, spacing), ()
        if self.options.fill:
            graph, fills = fill_gaps(graph, self._masks())
        stage = self.work / "result"
        shutil.rmtree(stage, ignore_errors=True)
        _make(stage)
        result = self._write(stage, graph, fills)
        outputs = {
            path.relative_to(stage).as_posix(): hash_file(path)
            for path in sorted(stage.rglob("*"))
            if path.is_file()
        }
        facts = self._facts(result, parameters, segmented, outputs)
        self._move(stage)
        tables.write_run(self.out / tables.RUN_NAME, facts)
        shutil.rmtree(self.work)
        return facts

    def _write(self, stage: Path, graph: TrackGraph, fills: tuple[Fill, ...]) -> Result:
        """Write masks, table and extras into ``stage``, and validate them."""
        digits = max(3, len(str(max(self.movie.frames))))
        for number, mask in relabel(self._masks(), graph, fills):
            write_mask_file(stage / f"mask{number:0{digits}d}.tif", mask)
        rows = graph.rows()
        write_track_table(rows, stage / TABLE_NAME)
        validate_result(stage, self.movie)
        filled = {(fill.frame, fill.label) for fill in fills}
        result = Result.of(stage, self.movie, graph, filled, self.options.scale)
        write_extras(result, self.options)
        return result

    def _facts(
        self,
        result: Result,
        parameters: LinkParameters,
        segmented: Segmented,
        outputs: Mapping[str, str],
    ) -> dict[str, Any]:
        config, graph = self._config(), result.graph
        return {
            **config,
            "config_sha256": hash_config(config),
            "input_sha256": _digest(segmented.inputs),
            "parameters": asdict(parameters),
            **({"cell_size": self._cell_size} if self._cell_size else {}),
            "frames": len(self.movie.frames),
            "cells": len(graph),
            "tracks": len(graph.rows()),
            "divisions": len(graph.divisions()),
            "gaps": len(graph.gaps()),
            "filled": len(result.filled),
            "outputs": dict(outputs),
        }

    def _move(self, stage: Path) -> None:
        """Put the new result in the place of an old one."""
        try:
            # First what says that a result is whole, and it comes back last.
            for old in (self.out / tables.RUN_NAME, self.out / TABLE_NAME):
                old.unlink(missing_ok=True)
            for old in self.out.glob("mask*.tif"):
                old.unlink()
            for path in sorted(stage.iterdir(), key=lambda p: p.name == TABLE_NAME):
                target = self.out / path.name
                if target.is_dir():
                    shutil.rmtree(target)
                os.replace(path, target)
        except OSError as error:
            raise write_error(self.out, error) from error


def link_spacing(geometry: Geometry, scale: Scale) -> tuple[float, ...] | None:
    """Return the spacing in units of its smallest step, None where it is unknown.

    Distances of the linker are then in pixels wherever pixels are square.
    """
    spacing = scale.spacing or (geometry.spacing if geometry.unit == "mm" else None)
    if spacing is None:
        return None
    return tuple(np.divide(spacing, min(spacing)).tolist())


def _digest(inputs: Mapping[int, str]) -> str:
    return hash_config({str(number): digest for number, digest in inputs.items()})
