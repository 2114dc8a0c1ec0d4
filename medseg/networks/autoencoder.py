"""Encoder, narrow code, decoder: what a network keeps of an image."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from monai.networks.layers.factories import Conv
from torch import Tensor, nn

from medseg.errors import ConfigError
from medseg.networks.blocks import check_dims
from medseg.networks.padding import AnySize
from medseg.networks.patches import fold_patches, unfold_patches


class Autoencoder(AnySize):
    """Autoencoder of patches (Hinton 2006); of whole images where ``patch`` is as large.

    Every patch of ``patch`` pixels a side becomes ``code`` numbers by itself, and
    these become the patch again. Without hidden ``widths`` it is linear: trained on
    the squared error it spans what the principal components span (Baldi 1989).
    Trained to give back clean images from corrupted ones it is a denoising
    autoencoder (Vincent 2008); on masks, a prior of shapes.

    Args:
        in_channels: Channels of the image.
        out_channels: Channels of the result, as many for a reconstruction.
        patch: Pixels a side of a patch.
        widths: Hidden channels from the patch to the code; back in reverse.
        code: Numbers that are kept of a patch.
        spatial_dims: 2 or 3.

    Raises:
        ConfigError: If ``patch`` or ``code`` is below 1, or for other axes.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 2,
        patch: int = 8,
        widths: Sequence[int] = (64,),
        code: int = 8,
        spatial_dims: int = 2,
    ) -> None:
        super().__init__()
        check_dims(spatial_dims)
        for name, value in (("patch", patch), ("code", code)):
            if value < 1:
                raise ConfigError(f"network.{name}", f"is {value}", "Use 1 or more")
        self.multiple = self._patch = patch
        layer = Conv[Conv.CONV, spatial_dims]
        pixels = patch**spatial_dims
        ladder = [*widths, code]
        encoder = [layer(in_channels * pixels, ladder[0], 1)]
        decoder = [layer(ladder[0], out_channels * pixels, 1)]
        for wide, narrow in pairwise(ladder):
            encoder += [nn.ReLU(), layer(wide, narrow, 1)]
            decoder = [layer(narrow, wide, 1), nn.ReLU(), *decoder]
        self.encoder = nn.Sequential(*encoder)
        self.decoder = nn.Sequential(*decoder)

    def encode(self, x: Tensor) -> Tensor:
        """Return the codes ``(N, code, [Z,] Y, X)``, one a patch."""
        codes: Tensor = self.encoder(unfold_patches(x, self._patch))
        return codes

    def decode(self, codes: Tensor) -> Tensor:
        """Return the images that codes stand for."""
        return fold_patches(self.decoder(codes), self._patch)

    def logits(self, x: Tensor) -> Tensor:
        """Return the images that the codes of ``x`` stand for."""
        return self.decode(self.encode(x))
