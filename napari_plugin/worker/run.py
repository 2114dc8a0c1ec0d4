"""One job on its way through shared memory, in the thread that feeds the worker."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from medseg.labels import LabelSet
from medseg.napari_plugin.worker.child import Child
from medseg.napari_plugin.worker.job import Done, Item, Job, Opened, Stack
from medseg.napari_plugin.worker.protocol import Message
from medseg.napari_plugin.worker.shared import Block, Field
from medseg.schema import parse

# While the worker is at one image, the next one is copied.
_SLOTS = 2


class Run:
    """Feeds the images of ``job`` to ``child`` and collects what comes back.

    Args:
        job: Is told what happens.
        child: Has just opened the model.
        facts: What it said about the model.

    Raises:
        ConfigError: If the model needs more axes than the image has.
    """

    def __init__(self, job: Job, child: Child, facts: Message) -> None:
        self._job, self._child = job, child
        labels: LabelSet = parse(LabelSet, facts["labels"], "labels")
        image = job.image
        self._stack = (
            image if isinstance(image, Stack) else Stack.of(image, facts["dims"])
        )
        self._layout = self._fields(facts, labels)
        self._blocks: list[Block] = []
        # A movie's first frames are looked at together for the size of their cells.
        together = facts["look"] if self._stack.movie and self._stack.count > 1 else 0
        self._slots = min(max(_SLOTS, together), self._stack.count)
        self._look = min(together, self._slots)
        self._next = self._finished = 0
        where = (facts["engine"], facts["device"])
        job.tell(Opened(labels, *where, self._stack.count, facts["settings"]))

    def _fields(self, facts: Message, labels: LabelSet) -> list[Field]:
        channels, *size = self._stack.shape
        lead = [len(labels)] if labels.kind == "overlapping" else []
        fields = [
            Field("pixels", (channels, *size), self._stack.dtype.str),
            Field("mask", (*lead, *size), labels.dtype.str),
        ]
        if self._job.options.probabilities:
            fields.append(Field("probabilities", (facts["channels"], *size), "<f4"))
        if self._job.options.uncertainty:
            fields.append(Field("uncertainty", tuple(size), "<f4"))
        return fields

    def start(self) -> None:
        """Make the shared memory and tell the worker of it.

        Raises:
            DiskError: If there is not enough.
        """
        for _ in range(self._slots):
            self._blocks.append(Block.create(self._layout))
        self._child.say(
            do="start",
            job=self._job.id,
            model=self._job.model,
            options=asdict(self._job.options),
            source=self._stack.source,
            spacing=self._stack.spacing or (1.0,) * (len(self._stack.shape) - 1),
            number_on=self._stack.number_on,
            look=self._look,
            preamble=self._stack.preamble(),
            layout=[(f.name, f.shape, f.dtype) for f in self._layout],
            blocks=[block.name for block in self._blocks],
        )

    def feed(self) -> None:
        """Hand over the first images: the worker has the memory now."""
        for block in self._blocks:
            block.unlink()
        for slot in range(len(self._blocks)):
            self._send(slot)

    def progress(self, index: int, done: int, total: int) -> None:
        """Pass on how far the worker is inside one image.

        Before the first image of many is done, the worker may be looking at the size
        of cells, which says nothing of the time that the images take.
        """
        share = (index + done / max(1, total)) / self._stack.count
        timed = self._finished > 0 or self._stack.count == 1
        self._job.tell_progress(share, timed)

    def collect(self, index: int, slot: int) -> None:
        """Take a result out of its block and put the next image there."""
        arrays = self._blocks[slot].arrays
        found = {name: a.copy() for name, a in arrays.items() if name != "pixels"}
        self._job.tell(Item(index, **found))
        self._finished += 1
        self._job.tell_progress(self._finished / self._stack.count)
        if self._finished == self._stack.count:
            self._child.say(do="finish", job=self._job.id)
        else:
            self._send(slot)

    def done(self, provenance: dict[str, Any]) -> None:
        """End the job well."""
        self._job.tell(Done(provenance))

    def close(self) -> None:
        """Give the memory back."""
        for block in self._blocks:
            block.unlink()
            block.close()
        self._blocks.clear()

    def _send(self, slot: int) -> None:
        if self._next == self._stack.count:
            return
        index, self._next = self._next, self._next + 1
        pixels = self._stack.read(index)
        np.copyto(self._blocks[slot].arrays["pixels"], pixels, casting="no")
        self._child.say(do="item", job=self._job.id, index=index, slot=slot)
