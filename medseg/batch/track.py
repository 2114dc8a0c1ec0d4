"""A movie to masks by track number and a track table: resumable, checked, atomic.

read -> predict -> instance masks in ``RES/.medseg-work`` (journal with hashes)
-> link -> fill gaps -> masks by track number, ``res_track.txt`` and what is wanted
beside them, staged by `ResultWriter` -> check -> publish -> remove the work folder.

Where masks and tracks are done already, only what is wanted beside them is written.
"""

from __future__ import annotations

import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from medseg import __version__
from medseg.batch.job import StagedPredictor
from medseg.batch.journal import hash_config
from medseg.batch.measure_cells import read_filled, read_graph
from medseg.batch.session import Listener, Progress
from medseg.batch.track_extras import Result, write_extras, write_filled
from medseg.batch.track_frames import DrawnRun, FrameRun, hash_frames
from medseg.batch.track_options import TrackOptions, TrackSummary, link_spacing
from medseg.batch.track_plan import MoviePlan, check_cells, plan_movie
from medseg.batch.track_record import (
    WORK_NAME,
    digest,
    remove_extras,
    restage,
    standing,
    whole_extras,
    write_record,
)
from medseg.batch.track_size import size_of_movie
from medseg.errors import PlanError
from medseg.io.atomic import make_folder, remove_stale
from medseg.io.ctc import ResultWriter
from medseg.io.lock import hold
from medseg.track import (
    Fill,
    estimate_parameters,
    fill_gaps,
    link_cells,
    observe,
    relabel,
)

__all__ = ["WORK_NAME", "TrackOptions", "TrackSummary", "track_movie"]


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
        PlanError: As `plan_movie`, or if there is neither predictor nor masks.
        ConfigError: As `plan_movie`, or if the model gives no instances.
        FileError: If a mask to link cannot be read, or the result would not be valid.
        LockedError: If another run holds ``out``.
        DiskError: If the disk is full or not writable.
        KeyboardInterrupt: If the user stopped it; a rerun resumes.
    """
    options = options or TrackOptions()
    plan = plan_movie(sequence, out, options, masks=masks)
    return run_movie(plan, predictor, options, progress)


def run_movie(
    plan: MoviePlan,
    predictor: StagedPredictor | None,
    options: TrackOptions,
    progress: Listener | None = None,
) -> TrackSummary:
    """Run a plan; see `track_movie`."""
    if plan.drawn is None:
        if predictor is None:
            raise PlanError("model", "is not given", "Give --model or --masks")
        check_cells(predictor.labels)
    make_folder(plan.out)
    with hold(plan.out):
        remove_stale(plan.out)
        return _Run(plan, predictor, options, progress or _silent).go()


def _silent(progress: Progress) -> None:
    pass


class _Run:
    """One run over one movie, while its output folder is held."""

    def __init__(
        self,
        plan: MoviePlan,
        predictor: StagedPredictor | None,
        options: TrackOptions,
        progress: Listener,
    ) -> None:
        self.movie, self.out = plan.movie, plan.out
        drawn = plan.drawn
        self.drawn = DrawnRun(drawn, plan.movie) if drawn is not None else None
        self.predictor, self.progress = predictor, progress
        scale = options.scale.completed(plan.movie.geometry)
        self.options = replace(options, scale=scale)
        self.work = plan.out / WORK_NAME
        facts = dict(predictor.describe()) if predictor else {}
        facts.pop("versions", None)
        # All that decides masks and tracks but the pixels, as plain data.
        self.config = {
            "medseg": __version__,
            "predictor": facts,
            "options": self.options.config(),
        }

    def go(self) -> TrackSummary:
        """Run what is not done yet."""
        if not self.options.overwrite:
            record = standing(self.out, self.config, self._inputs)
            if record is not None:
                record = self._complete(record)
                return TrackSummary(0, len(self.movie.frames), facts=record)
        if self.drawn is None:
            make_folder(self.work)
        frames, facts = self._frames()
        segmented = frames.run()
        if segmented.errors:
            return TrackSummary(segmented.done, segmented.skipped, segmented.errors)
        facts["input_sha256"] = digest(segmented.inputs)
        record = self._link(frames, facts)
        if self.work.exists():
            shutil.rmtree(self.work)
        return TrackSummary(segmented.done, segmented.skipped, facts=record)

    def _complete(self, record: dict[str, Any]) -> dict[str, Any]:
        """Write what is wanted and not there beside masks and tracks that stand.

        Tables of another spacing are made again with those that are wanted now.
        """
        options, former = self.options, record["beside"]
        there = whole_extras(self.out, record)
        wanted = options.with_extras({*options.extras, *there})
        alike = wanted.beside() == {**former, "extras": list(wanted.extras)}
        new = set(wanted.extras).difference(there if alike else ())
        if new.isdisjoint(options.extras):
            return record
        with self._writer() as writer:
            restage(self.out, record, writer.stage, extras=alike)
            facts = {**record, "beside": wanted.beside()}
            return self._publish(writer, facts, options.with_extras(new))

    def _writer(self) -> ResultWriter:
        digits = max(3, len(str(max(self.movie.frames))))
        return ResultWriter(self.out, self.movie.shape, digits)

    def _publish(
        self, writer: ResultWriter, facts: dict[str, Any], wanted: TrackOptions
    ) -> dict[str, Any]:
        """Write what is wanted beside staged masks and tracks, and put all in place.

        Returns:
            The record of it.
        """
        stage = writer.stage
        if wanted.extras:
            graph, filled = read_graph(stage), read_filled(stage)
            result = Result(stage, graph, filled, wanted.scale, self.movie)
            write_extras(result, wanted)
        record = write_record(stage, facts)
        remove_extras(self.out)
        writer.publish()
        return record

    def _inputs(self) -> dict[int, str]:
        return self.drawn.inputs() if self.drawn else hash_frames(self.movie)

    def _frames(self) -> tuple[FrameRun | DrawnRun, dict[str, Any]]:
        """Return where the instance masks come from, and what the record says of it."""
        if self.drawn is not None:
            return self.drawn, {}
        assert self.predictor is not None, "run_movie has checked"
        predictor, facts = self.predictor, {}
        if predictor.looks_for_size:
            size = size_of_movie(self.movie, self.work, predictor)
            found = {"diameter": size.diameter, "diameter_from": size.origin}
            predictor, facts = predictor.sized(size), {"cell_size": found}
        return FrameRun(self.movie, self.work, predictor, self.progress), facts

    def _link(
        self, frames: FrameRun | DrawnRun, facts: dict[str, Any]
    ) -> dict[str, Any]:
        """Link, write, check, put in place; return the record of the run."""
        spacing = link_spacing(self.options.scale)
        cells = observe(frames.masks())
        parameters = estimate_parameters(cells, spacing, **self.options.link)
        graph, fills = link_cells(cells, parameters, spacing), tuple[Fill, ...]()
        if self.options.fill:
            graph, fills = fill_gaps(graph, frames.masks())
        rows, numbers = graph.rows(), self.movie.frames
        with self._writer() as writer:
            for number, mask in relabel(frames.masks(), graph, fills):
                writer.write(number, mask)
            writer.check(numbers, rows)
            write_filled(writer.stage, graph, fills)
            facts |= {
                **self.config,
                "beside": self.options.beside(),
                "config_sha256": hash_config(self.config),
                "parameters": asdict(parameters),
                "frames": len(numbers),
                "cells": len(graph),
                "tracks": len(rows),
                "divisions": len(graph.divisions()),
                "gaps": len(graph.gaps()),
                "filled": len(fills),
            }
            return self._publish(writer, facts, self.options)
