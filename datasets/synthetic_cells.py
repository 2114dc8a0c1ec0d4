"""Nuclei of a drawn movie: how they move, grow, push each other and divide.

Lengths are in pixels of ``y`` and ``x``; ``z`` is scaled by the anisotropy when the
pixels are made. A nucleus is an ellipsoid with a few waves on its surface, in 2-D
and 3-D alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
WAVES, SPOTS = 5, 12
YOUNG, ROUNDING = 0.8, 3  # radius of a daughter; frames of rounding up
DIM = 0.45  # of a mean nucleus; none is darker
CONTACT = 0.97  # of the sum of radii, where nuclei touch


@dataclass(frozen=True, eq=False)
class Nucleus:
    """One nucleus in one frame.

    Args:
        key: Never changes; daughters have new ones.
        parent: Key of the mother, 0 for none.
        place: ``(D,)`` centre.
        speed: ``(D,)`` a frame.
        radius: Of the grown nucleus.
        age: Frames since its birth.
        life: Frames from birth to division.
        axes: ``(D,)`` relative half-axes, their product about 1.
        turn: ``(D, D)`` rotation from the cell's own axes.
        waves: ``(WAVES, D + 2)`` direction, height and phase.
        spots: ``(SPOTS, D + 2)`` place in the unit ball, width and height.
        light: Brightness.
    """

    key: int
    parent: int
    place: Vector
    speed: Vector
    radius: float
    age: int
    life: int
    axes: Vector
    turn: Vector
    waves: Vector
    spots: Vector
    light: float

    @property
    def size(self) -> float:
        """Radius now: daughters grow, and a nucleus rounds up before it divides."""
        grown = YOUNG + (1 - YOUNG) * min(1.0, 1.5 * self.age / self.life)
        return self.radius * grown * (0.88 if self.dividing else 1.0)

    @property
    def dividing(self) -> bool:
        """Whether it divides within the next frames."""
        return self.life - self.age <= ROUNDING


def new_nucleus(
    rng: np.random.Generator,
    key: int,
    place: Vector,
    radius: float,
    life: tuple[int, int],
    speed: float,
) -> Nucleus:
    """Return a nucleus at ``place``, somewhere in its life."""
    ndim = len(place)
    axes = np.exp(rng.normal(0, 0.12, ndim))
    span = int(rng.integers(*life)) if life[1] > life[0] else life[0]
    kind = rng.random()
    spots = _spots(rng, ndim, bright=kind < 0.45, fine=kind < 0.1)
    return Nucleus(
        key,
        0,
        np.asarray(place, float),
        rng.normal(0, speed, ndim),
        radius * float(rng.uniform(0.85, 1.15)),
        int(rng.integers(0, max(1, span - ROUNDING))),
        span,
        axes / np.prod(axes) ** (1 / ndim),
        np.linalg.qr(rng.normal(size=(ndim, ndim)))[0],
        _waves(rng, ndim),
        spots,
        max(DIM, float(np.exp(rng.normal(0, 0.45)))),
    )


def _waves(rng: np.random.Generator, ndim: int) -> Vector:
    waves = np.empty((WAVES, ndim + 2))
    waves[:, :ndim] = rng.normal(0, 1.5, (WAVES, ndim))
    waves[:, ndim] = rng.uniform(0.01, 0.045, WAVES)
    waves[:, ndim + 1] = rng.uniform(0, 2 * np.pi, WAVES)
    return waves


def _spots(rng: np.random.Generator, ndim: int, bright: bool, fine: bool) -> Vector:
    spots = np.empty((SPOTS, ndim + 2))
    spots[:, :ndim] = rng.uniform(-0.6, 0.6, (SPOTS, ndim))
    spots[:, ndim] = rng.uniform(0.18, 0.45, SPOTS)
    spots[:, ndim + 1] = rng.normal(0, 0.3, SPOTS)  # chromatin, and nucleoli
    spots[6:, ndim] = rng.uniform(0.1, 0.2, SPOTS - 6)
    if bright:
        spots[:2, ndim] = rng.uniform(0.15, 0.28, 2)
        spots[:2, ndim + 1] = rng.uniform(0.5, 1.6, 2)
    if fine:
        spots[:, ndim] = rng.uniform(0.07, 0.12, SPOTS)
        spots[:, ndim + 1] = rng.uniform(1.0, 3.0, SPOTS)
    return spots


def step(
    rng: np.random.Generator,
    nuclei: Sequence[Nucleus],
    next_key: int,
    speed: float,
    divisions: bool,
) -> list[Nucleus]:
    """Return the nuclei one frame later; daughters take keys from ``next_key``."""
    moved: list[Nucleus] = []
    for nucleus in nuclei:
        if divisions and nucleus.age >= nucleus.life:
            moved += _divide(rng, nucleus, next_key)
            next_key += 2
        else:
            moved.append(_move(rng, nucleus, speed, divisions))
    return push_apart(moved)


def _move(
    rng: np.random.Generator, nucleus: Nucleus, speed: float, divisions: bool
) -> Nucleus:
    ndim = len(nucleus.place)
    drift = 0.75 * nucleus.speed + rng.normal(0, 0.66 * speed, ndim)
    turn = np.linalg.qr(nucleus.turn + rng.normal(0, 0.03, (ndim, ndim)))[0]
    # The sign of a column of qr is free; keep the axes where they were.
    turn = turn * np.sign(np.sum(turn * nucleus.turn, axis=0))
    waves = nucleus.waves.copy()
    waves[:, -1] += rng.normal(0, 0.15, len(waves))
    older = nucleus.age + 1 if divisions else min(nucleus.age + 1, nucleus.life // 2)
    return replace(
        nucleus,
        place=nucleus.place + drift,
        speed=drift,
        turn=turn,
        waves=waves,
        age=older,
    )


def _divide(rng: np.random.Generator, mother: Nucleus, key: int) -> list[Nucleus]:
    axis = mother.turn[:, int(np.argmax(mother.axes))]
    half = 0.85 * YOUNG * mother.radius * axis
    ndim = len(half)
    return [
        replace(
            mother,
            key=key + i,
            parent=mother.key,
            place=mother.place + sign * half,
            speed=mother.speed + sign * 0.1 * half,
            radius=mother.radius * float(rng.uniform(0.96, 1.04)),
            age=0,
            life=max(ROUNDING + 2, int(mother.life * rng.uniform(0.8, 1.2))),
            waves=_waves(rng, ndim),
            light=max(DIM, mother.light * float(rng.uniform(0.85, 1.1))),
        )
        for i, sign in enumerate((-1, 1))
    ]


def push_apart(nuclei: Sequence[Nucleus], rounds: int = 4) -> list[Nucleus]:
    """Return the nuclei moved so that none lies in another: they touch."""
    if not nuclei:
        return []
    place = np.stack([n.place for n in nuclei])
    size = np.array([n.size for n in nuclei])
    least = CONTACT * (size[:, None] + size)
    np.fill_diagonal(least, 0)
    for _ in range(rounds):
        apart = place[:, None] - place  # (N, N, D)
        distance = np.maximum(np.linalg.norm(apart, axis=2), 1e-6)
        lack = np.maximum(least - distance, 0) / distance
        place = place + 0.5 * np.sum(apart * lack[..., None], axis=1)
    return [replace(n, place=p) for n, p in zip(nuclei, place, strict=True)]


def shape_and_light(
    nucleus: Nucleus, offsets: Vector
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return how deep points lie in a nucleus, and how bright it is there.

    Args:
        nucleus: The nucleus.
        offsets: ``(P, D)`` from its centre, in pixels.

    Returns:
        ``(P,)`` 0 in the middle and 1 at the border, and ``(P,)`` brightness.
    """
    ndim = offsets.shape[1]
    depth = np.full(len(offsets), 2.0, np.float32)
    light = np.zeros(len(offsets), np.float32)
    reach = 1.3 * nucleus.size * nucleus.axes.max()
    near = np.flatnonzero(np.einsum("pd,pd->p", offsets, offsets) < reach**2)
    own = np.einsum("pd,de->pe", offsets[near], nucleus.turn)
    own = (own / (nucleus.axes * nucleus.size)).astype(np.float32)
    radius = np.sqrt(np.einsum("pd,pd->p", own, own))
    unit = own / np.maximum(radius, 1e-6)[:, None]
    surface = np.ones(len(own), np.float32)
    for *way, height, phase in nucleus.waves.tolist():
        along = sum(w * unit[:, d] for d, w in enumerate(way))
        surface += height * np.sin(along + phase)
    depth[near] = radius / surface
    inside = depth[near] < 1
    light[near[inside]] = _light(nucleus, own[inside], depth[near[inside]], ndim)
    return depth, light


def _light(
    nucleus: Nucleus, own: NDArray[np.float32], depth: NDArray[np.float32], ndim: int
) -> NDArray[np.float32]:
    """Return the brightness of points inside: chromatin, spots, a thinner rim."""
    light = np.ones(len(own), np.float32)
    for spot in nucleus.spots.tolist():
        width, height = spot[ndim:]
        apart = sum((own[:, d] - spot[d]) ** 2 for d in range(ndim))
        light += height * np.exp(-apart / (2 * width**2))
    # A section through a ball: thinner at the rim.
    thin = np.maximum(light, 0.3) * (0.45 + 0.55 * np.sqrt(1 - depth))
    bright = nucleus.light * (1.5 if nucleus.dividing else 1.0)
    return np.asarray(thin * bright, np.float32)
