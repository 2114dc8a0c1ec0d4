"""What a prior of shapes mends, and whether implausible masks are wrong ones.

    python benchmarks/shape_prior.py JSRT --docs docs [--model chest-xray]

Learns a prior from the masks of the JSRT training films, then, on the films held
back: Dice of masks corrupted on purpose before and after mending; and, for a model's
masks of the films as they are and spoilt, how plausibility goes with true Dice.
Beside it, codes of 8 x 8 patches of the films against JPEG files of the same PSNR.
Writes ``shape-prior.md`` with pictures and prints one JSON line.
"""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image as Picture
from scipy import ndimage, stats

from medseg.datasets import jsrt
from medseg.datasets.case import Case
from medseg.image import Image
from medseg.metrics.overlap import count, dice
from medseg.model import load_model
from medseg.networks.autoencoder import Autoencoder
from medseg.predict import Predictor
from medseg.shape_prior import ShapePrior, corrupt, learn
from medseg.train.score import read_case
from medseg.train.split import divide

Masks = NDArray[np.bool_]
SIDE = 512
PATCH = 8
CODES = (1, 2, 4, 8, 16)
QUALITIES = (2, 5, 10, 20, 40, 60, 80, 90)

# Films in [0, 1] that models fail on more and more.
SPOILT: dict[str, Callable[[NDArray[np.float32]], NDArray[np.float32]]] = {
    "as it is": lambda x: x,
    "upside down": lambda x: x[::-1],
    "rotated by 25 degrees": lambda x: ndimage.rotate(x, 25, reshape=False, order=1),
    "lower half black": lambda x: np.where(
        np.arange(len(x))[:, None] < len(x) / 2, x, 0
    ).astype(np.float32),
    "very noisy": lambda x: (
        (x + np.random.default_rng(0).normal(0, 0.5, x.shape))
        .clip(0, 1)
        .astype(np.float32)
    ),
    "very blurred": lambda x: ndimage.gaussian_filter(x, 25),
}
# Those that move the film move the truth as well.
MOVES = ("upside down", "rotated by 25 degrees")


def read(case: Case, names: Sequence[str]) -> tuple[NDArray[np.float32], Masks]:
    """Return the film ``(Y, X)`` in [0, 1] and the masks ``(K, Y, X)``."""
    film, truth = read_case(case, names)
    pixels = film.pixels[0].astype(np.float32)
    return pixels / pixels.max(), np.stack([truth.structure(n) for n in names])


def dices(found: Masks, wanted: Masks) -> list[float]:
    """Return the Dice of each structure; NaN where it is in neither."""
    return [dice(count(a, b)) for a, b in zip(found, wanted, strict=True)]


def mending(
    prior: ShapePrior, truths: list[Masks], names: Sequence[str]
) -> tuple[dict[str, dict[str, float]], list[list[Masks]]]:
    """Return Dice by structure, and the first films' masks to look at."""
    lots = torch.Generator().manual_seed(1)
    rows, shown = [], []
    for truth in truths:
        spoilt = corrupt(torch.from_numpy(truth[None]).float(), lots)[0].numpy() > 0.5
        mended = prior.mend(spoilt)
        kinds = (spoilt, mended, prior.mend(truth))
        rows.append([dices(masks, truth) for masks in kinds])
        shown.append([truth, spoilt, mended])
    means = np.nanmean(rows, axis=0).T
    kinds = ("corrupted", "mended", "untouched")
    table = {
        name: dict(zip(kinds, map(float, row), strict=True))
        for name, row in zip(names, means, strict=True)
    }
    return table, shown[:4]


def doubt(
    prior: ShapePrior, films: list[tuple[NDArray[np.float32], Masks]], model: str
) -> dict[str, dict[str, float]]:
    """Return mean Dice and plausibility of a model's masks by what was done."""
    predictor = Predictor(load_model(model))
    rows: dict[str, list[tuple[float, float]]] = {}
    for name, spoil in SPOILT.items():
        for film, truth in films:
            found = predictor.predict(Image.from_array(spoil(film)[None].copy()))
            masks = np.asarray(found.mask) > 0
            wanted = truth
            if name in MOVES:
                wanted = np.stack([spoil(m.astype(np.float32)) > 0.5 for m in truth])
            plausible = np.nanmean(np.nan_to_num(prior.plausibility(masks)))
            found_dice = float(np.nanmean(dices(masks, wanted)))
            rows.setdefault(name, []).append((found_dice, plausible))
    table = {
        name: dict(zip(("dice", "plausibility"), np.mean(r, axis=0), strict=True))
        for name, r in rows.items()
    }
    every = np.array([pair for r in rows.values() for pair in r])
    table["rank correlation"] = {"dice": float(stats.spearmanr(*every.T)[0])}
    return table


def codes(
    train: list[NDArray[np.float32]], held: list[NDArray[np.float32]]
) -> dict[int, float]:
    """Return the PSNR of linear codes of 8 x 8 patches, by numbers a patch.

    The best linear autoencoder is known (Baldi 1989): its decoder is set to the
    principal components, which training would only approach.
    """
    patches = torch.cat([_patches(film) for film in train])
    mean = patches.mean(dim=0)
    _, _, components = torch.pca_lowrank(patches - mean, q=max(CODES), center=False)
    found = {}
    for code in CODES:
        network = Autoencoder(1, 1, PATCH, (), code)
        basis = components[:, :code]
        state = {
            "encoder.0.weight": basis.T[..., None, None],
            "encoder.0.bias": -(mean @ basis),
            "decoder.0.weight": basis[..., None, None],
            "decoder.0.bias": mean,
        }
        network.load_state_dict(state)
        errors = []
        for film in held:
            x = torch.from_numpy(film)[None, None]
            with torch.no_grad():
                kept = network.encode(x)
                # One byte a number: that is what is compared with the file.
                step = (kept.amax() - kept.amin()) / 255
                errors.append(
                    F.mse_loss(network.decode((kept / step).round() * step), x).item()
                )
        found[code] = float(np.mean([-10 * np.log10(e) for e in errors]))
    return found


def _patches(film: NDArray[np.float32]) -> torch.Tensor:
    x = torch.from_numpy(film)[None, None]
    return F.unfold(x, PATCH, stride=PATCH)[0].T[::7]


def jpeg(held: list[NDArray[np.float32]]) -> list[tuple[float, float]]:
    """Return bits a pixel and PSNR of JPEG files by quality."""
    found = []
    for quality in QUALITIES:
        rows = []
        for film in held:
            whole = np.rint(film * 255).astype(np.uint8)
            file = io.BytesIO()
            Picture.fromarray(whole).save(file, "JPEG", quality=quality)
            back = np.asarray(Picture.open(io.BytesIO(file.getvalue())))
            error = np.mean((back / 255 - film) ** 2)
            rows.append((8 * file.tell() / film.size, -10 * np.log10(error)))
        found.append(tuple(map(float, np.mean(rows, axis=0))))
    return found


def draw_masks(shown: list[list[Masks]], path: Path) -> None:
    colours = np.array(
        [[76, 155, 232], [47, 111, 181], [224, 82, 77], [242, 177, 52], [201, 138, 18]]
    )
    figure = Figure(figsize=(8, 2.1 * len(shown)), layout="constrained")
    axes = figure.subplots(len(shown), 3, squeeze=False)
    for row, masks in zip(axes, shown, strict=True):
        titles = ("drawn", "corrupted", "mended")
        for axis, one, title in zip(row, masks, titles, strict=True):
            picture = np.full((*one.shape[1:], 3), 20, np.uint8)
            for mask, colour in zip(one, colours, strict=True):
                picture[mask] = colour
            axis.imshow(picture)
            axis.set_title(title, fontsize=9)
            axis.axis("off")
    figure.savefig(path, dpi=70)


def draw_codes(
    found: dict[int, float], files: list[tuple[float, float]], path: Path
) -> None:
    figure = Figure(figsize=(5, 3.4), layout="constrained")
    axis = figure.subplots()
    bits = [8 * code / PATCH**2 for code in found]
    axis.plot(bits, list(found.values()), "o-", label="linear code of 8 x 8 patches")
    axis.plot(*zip(*files, strict=True), "s-", label="JPEG file")
    axis.set_xscale("log")
    axis.set_xlabel("bits a pixel")
    axis.set_ylabel("PSNR (dB)")
    axis.legend()
    figure.savefig(path, dpi=90)


EXPLAINED = """# A prior of shapes

`medseg.shape_prior` learns from masks alone what they look like: a denoising
autoencoder (one hidden layer, a code of 64 numbers, 48 x 48 pixels) that was trained
to give back drawn masks from corrupted ones.

```python
import numpy as np

from medseg.datasets.synthetic import chest_film
from medseg.shape_prior import learn

films = [chest_film(np.random.default_rng(seed), 128) for seed in range(24)]
masks = np.stack([film.masks[:3] for film in films])  # (N, K, Y, X): lungs and heart
prior = learn(masks[:23], steps=150)

found = masks[23].copy()
rows = np.flatnonzero(found[2].any(axis=1))
found[2, rows[len(rows) // 2] :] = 0  # a model that has lost half of the heart
print(prior.plausibility(found))  # about 0.81, 0.80 and 0.60: the heart is in doubt
mended = prior.mend(found)  # (K, Y, X)
```

Plausibility is the Dice of each structure with what `mend` makes of it; the heart comes
back in part (Dice with the drawn one 0.70 after 0.52). Learn large structures: clavicles
are thinner than the pixels of the prior, which takes them away.

It sees no image. What it gives is plausible, not true: use it to find masks that
deserve a look, or as a start where a model has failed; a rare anatomy is implausible
as well. It is no part of `medseg predict`.

"""


def page(result: dict, model: str) -> str:
    doubts = result["doubt"]
    mendings = "\n".join(
        f"| {name.replace('_', ' ')} | {row['corrupted']:.3f} | {row['mended']:.3f} "
        f"| {row['untouched']:.3f} |"
        for name, row in result["mending"].items()
    )
    rows = "\n".join(
        f"| {name} | {row['dice']:.3f} | {row['plausibility']:.3f} |"
        for name, row in doubts.items()
        if "plausibility" in row
    )
    return f"""{EXPLAINED}## Masks corrupted on purpose

Learnt from the {result["trained_on"]} training films of JSRT; Dice on the
{result["held"]} films held back. The last column is what the code and its coarse grid
lose of masks that need no mending: clavicles are two or three of its pixels thick, and
are not to be mended so.

| structure | corrupted | mended | untouched, through the code |
|---|---|---|---|
{mendings}

![Drawn, corrupted and mended masks](shape-prior.png)

## Are implausible masks wrong?

Masks of {model} on the films held back, spoilt more and more; means over the films:

| film | Dice with the truth | plausibility |
|---|---|---|
{rows}

Rank correlation of the two over all films: {doubts["rank correlation"]["dice"]:.2f}.

## How little a film needs

The best linear autoencoder of 8 x 8 patches (the principal components of the training
films, one byte a number) against JPEG on the films held back, at {SIDE} x {SIDE}:

![PSNR by bits a pixel](shape-prior-codes.png)

Made by

```
python benchmarks/shape_prior.py JSRT --docs docs
```
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("jsrt", type=Path)
    parser.add_argument("--docs", type=Path)
    parser.add_argument("--model", default="chest-xray")
    parser.add_argument("--steps", type=int, default=2000)
    options = parser.parse_args()
    spec = load_model(options.model).spec
    names = spec.labels.names
    train, held = divide(jsrt.cases(options.jsrt), "split")
    known, unseen = ([read(case, names) for case in part] for part in (train, held))
    masks = np.stack([_small(m) for _, m in known])
    prior = learn(masks, steps=options.steps)
    mended, shown = mending(prior, [m for _, m in unseen], names)
    small = [[_shrink(film) for film, _ in part] for part in (known, unseen)]
    found, files = codes(*small), jpeg(small[1])
    result = {
        "trained_on": len(known),
        "held": len(unseen),
        "mending": mended,
        "doubt": doubt(prior, unseen, options.model),
        "codes_psnr": found,
        "jpeg_bits_psnr": files,
    }
    if options.docs:
        draw_masks(shown, options.docs / "shape-prior.png")
        draw_codes(found, files, options.docs / "shape-prior-codes.png")
        text = page(result, f"`{spec.name}` version {spec.version}")
        (options.docs / "shape-prior.md").write_text(text, encoding="utf-8")
    print(json.dumps(result))


def _small(masks: Masks) -> NDArray[np.float32]:
    whole = torch.from_numpy(masks.astype(np.float32))[None]
    return F.interpolate(whole, (128, 128), mode="area")[0].numpy()


def _shrink(film: NDArray[np.float32]) -> NDArray[np.float32]:
    whole = torch.from_numpy(film)[None, None]
    return F.interpolate(whole, (SIDE, SIDE), mode="area")[0, 0].numpy()


if __name__ == "__main__":
    main()
