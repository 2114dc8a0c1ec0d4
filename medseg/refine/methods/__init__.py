"""Ways to mend a mask around a prompt, one file each."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import Literal

from medseg.refine.methods.base import Method, View
from medseg.refine.methods.graph_cut import GraphCut
from medseg.refine.methods.grow import Grow
from medseg.refine.methods.model_guided import ModelGuided
from medseg.refine.methods.paint import Paint
from medseg.refine.methods.random_walker import RandomWalker

MethodName = Literal["model_guided", "graph_cut", "random_walker", "grow", "paint"]

METHODS: MappingProxyType[str, Callable[[], Method]] = MappingProxyType(
    {
        "model_guided": ModelGuided,
        "graph_cut": GraphCut,
        "random_walker": RandomWalker,
        "grow": Grow,
        "paint": Paint,
    }
)

__all__ = [
    "METHODS",
    "GraphCut",
    "Grow",
    "Method",
    "MethodName",
    "ModelGuided",
    "Paint",
    "RandomWalker",
    "View",
]
