"""Read weights that the user brings."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from medseg.errors import FileError


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file by name.

    Raises:
        FileError: If there is no such file or it is of another kind.
    """
    if path.suffix in (".pth", ".pt", ".bin"):
        raise FileError(
            path,
            "is a pickled file, which can run code",
            "Save its tensors with safetensors.torch.save_file",
        )
    try:
        return load_file(path)
    except FileNotFoundError as error:
        raise FileError(path, "does not exist", "Check the name") from error
    except (OSError, SafetensorError) as error:
        raise FileError(
            path,
            f"is no safetensors file ({error})",
            "Save its tensors with safetensors.torch.save_file",
        ) from error
