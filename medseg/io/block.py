"""The few facts that medseg writes beside the pixels, where the format has room.

A JSON object of the label set, the geometry and how a mask came about: no free text
and nothing about a patient. NIfTI keeps it in a header extension, TIFF in the image
description, PNG in a text chunk, NRRD and MetaImage in a header field, DICOM-SEG in a
private element.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from medseg.errors import ConfigError, FileError
from medseg.geometry import Geometry
from medseg.labels import Label, LabelSet

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

KEYWORD = "medseg"
VERSION = 1
FACTS = (
    "model",
    "model_hash",
    "models",
    "versions",
    "engine",
    "device",
    "precision",
    "parameters",
    "fallbacks",
    "input_sha256",
    "mask_sha256",
)
"""What is written of a provenance; a script may keep anything else in it."""
_LIMIT = 2**20


@dataclass(frozen=True)
class Block:
    """What the file says about itself.

    Args:
        geometry: Exact geometry, also where the format has only a resolution.
        labels: Of a mask; None for an image.
        provenance: Of a mask, with its hash: see `medseg.segmentation.genuine`.
        colours: Whether three channels of an image are red, green and blue.
    """

    geometry: Geometry
    labels: LabelSet | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    colours: bool = False

    def replaces(self, geometry: Geometry) -> bool:
        """Return whether our geometry is the exact form of the header's.

        It is not where another program changed the header since. A header that
        knows mm alone has 1 mm where we have 1 px.
        """
        return self.geometry.matches(replace(geometry, unit=self.geometry.unit))

    def dump(self) -> str:
        """Return the JSON text: the same block always gives the same text."""
        fields = self.fields()
        return json.dumps(fields, separators=(",", ":"), ensure_ascii=True, default=str)

    def fields(self) -> dict[str, Any]:
        """Return the JSON object."""
        g = self.geometry
        fields: dict[str, Any] = {
            "version": VERSION,
            "spacing": list(g.spacing),
            "origin": list(g.origin),
            "direction": [list(row) for row in g.direction],
            "unit": g.unit,
            "detector_plane": g.detector_plane,
        }
        if self.labels is not None:
            fields["kind"] = self.labels.kind
            fields["labels"] = [[x.value, x.name, x.colour] for x in self.labels]
        made = {
            fact: self.provenance[fact] for fact in FACTS if fact in self.provenance
        }
        if made:
            fields["provenance"] = made
        if self.colours:
            fields["colours"] = True
        return fields


def parse_block(path: Path, text: str | bytes) -> Block:
    """Return the block that ``text`` holds.

    Raises:
        FileError: If it is malformed or of a newer version.
    """
    try:
        if len(text) > _LIMIT:
            raise ValueError("too long")
        fields = json.loads(text)
        if fields["version"] != VERSION:
            raise FileError(
                path,
                f"its medseg block has version {str(fields['version'])[:20]}, this "
                f"program knows {VERSION}",
                "Update medseg",
            )
        return Block(
            _geometry(fields),
            _labels(fields) if "labels" in fields else None,
            dict(fields.get("provenance", {})),
            bool(fields.get("colours", False)),
        )
    except (
        ValueError, TypeError, KeyError, IndexError, OverflowError, RecursionError,
        ConfigError,
    ) as error:  # fmt: skip
        raise FileError(
            path,
            f"its medseg block is damaged ({type(error).__name__})",
            "Write the mask again",
        ) from error


def _geometry(fields: Mapping[str, Any]) -> Geometry:
    return Geometry(
        tuple(float(s) for s in fields["spacing"]),
        tuple(float(o) for o in fields["origin"]),
        tuple(tuple(float(d) for d in row) for row in fields["direction"]),
        fields["unit"],
        bool(fields["detector_plane"]),
    )


def _labels(fields: Mapping[str, Any]) -> LabelSet:
    return LabelSet(
        tuple(Label(int(v), str(name), str(c)) for v, name, c in fields["labels"]),
        fields["kind"],
    )
