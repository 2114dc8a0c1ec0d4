"""Mending a mask with prompts and tools.

>>> import numpy as np
>>> from medseg.labels import Label, LabelSet
>>> from medseg.refine import Point, RefineSession
>>> session = RefineSession(method="paint")
>>> session.set_image(np.zeros((8, 8)))
>>> labels = LabelSet((Label(1, "cell", "#4c9be8"),))
>>> session.set_mask(np.zeros((8, 8), np.uint8), labels, target=1)
>>> edit = session.add(Point((4, 4)))
>>> int(session.mask[4, 4]), session.undo() is not None, int(session.mask[4, 4])
(1, True, 0)
"""

from __future__ import annotations

from medseg.refine.edit import Edit, apply_edit, edit_between, revert_edit
from medseg.refine.methods import METHODS, Method, MethodName
from medseg.refine.prompts import Box, Lasso, Point, Prompt, Scribble
from medseg.refine.session import RefineSession

__all__ = [
    "METHODS",
    "Box",
    "Edit",
    "Lasso",
    "Method",
    "MethodName",
    "Point",
    "Prompt",
    "RefineSession",
    "Scribble",
    "apply_edit",
    "edit_between",
    "revert_edit",
]
