"""Read files in child processes: a reader that crashes or hangs costs one file.

The child is this module run as a program, so that nothing of the caller's is
imported again. It answers each path with one line of JSON, and with the pixels
after it.
"""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import numpy as np

from medseg.errors import FileError, ImageWarning, MedsegError
from medseg.geometry import Geometry
from medseg.image import Image
from medseg.io import read_image

COMMAND = (sys.executable, "-m", "medseg.batch.isolate")
_GRACE = 5  # seconds that the parent has to end a late child itself
_MEMORY = 16 << 30  # address space of a child, bytes


class IsolatedReader:
    """Reads images in child processes, one for each thread that calls it.

    Args:
        time_limit: Seconds for one file; the child is killed then.
        command: The child's program; gets the limit as its last argument, so that it
            ends by itself if this process is gone.
    """

    def __init__(self, time_limit: float, command: Sequence[str] = COMMAND) -> None:
        self._limit = time_limit
        self._command = tuple(command)
        self._own = threading.local()
        self._all: list[subprocess.Popen[bytes]] = []

    def __call__(self, path: Path) -> Image:
        """Return the image of ``path``; a crash is tried once more.

        Raises:
            FileError: If it cannot be read, or the reader crashed twice or hung.
        """
        with suppress(ChildProcessError):
            return self._attempt(path)
        try:
            return self._attempt(path)
        except ChildProcessError as error:
            raise FileError(
                path,
                f"the reader crashed on it twice (exit status {error})",
                "The file is damaged: get it again from its source",
            ) from error

    def _attempt(self, path: Path) -> Image:
        """Ask a child once; where it dies, raise ChildProcessError with its status."""
        child, late = self._child(), threading.Event()

        def end() -> None:
            late.set()  # first: whoever sees the child's end has to know its cause
            child.kill()

        timer = threading.Timer(self._limit, end)
        timer.daemon = True
        timer.start()
        try:
            return self._ask(path)
        except (OSError, EOFError, ValueError) as error:
            code = self._bury()
            if late.is_set():
                raise FileError(
                    path,
                    f"reading took longer than {self._limit:g} s",
                    "Check the file, or read it without --isolate",
                ) from error
            raise ChildProcessError(code) from error
        finally:
            timer.cancel()

    def close(self) -> None:
        """End all child processes."""
        for child in self._all:
            child.kill()
            child.wait()
            _close_pipes(child)
        self._all.clear()

    def _child(self) -> subprocess.Popen[bytes]:
        child = getattr(self._own, "child", None)
        if child is None:
            child = subprocess.Popen(
                (*self._command, str(self._limit)),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for the parent to answer
            )
            self._own.child = child
            self._all.append(child)
            assert child.stdout is not None
            child.stdout.readline()  # its start does not count as a file's time
        return child

    def _bury(self) -> int:
        child = self._child()
        child.kill()
        code = child.wait()
        _close_pipes(child)
        self._own.child = None
        self._all.remove(child)
        return code

    def _ask(self, path: Path) -> Image:
        child = self._child()
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(json.dumps(os.fspath(path)).encode() + b"\n")
        child.stdin.flush()
        line = child.stdout.readline()
        if not line:
            raise EOFError
        answer = json.loads(line)
        for text in answer["warnings"]:
            warnings.warn(text, ImageWarning, stacklevel=4)
        if "error" in answer:
            raise FileError(*answer["error"])
        return _image(answer, child.stdout)


def _close_pipes(child: subprocess.Popen[bytes]) -> None:
    for pipe in filter(None, (child.stdin, child.stdout)):
        with suppress(OSError):
            pipe.close()


def _image(answer: dict[str, Any], stream: IO[bytes]) -> Image:
    pixels = np.empty(answer["shape"], np.dtype(answer["dtype"]))
    view = pixels.reshape(-1).view(np.uint8).data
    while len(view):
        count = stream.readinto(view)  # type: ignore[attr-defined]
        if not count:
            raise EOFError
        view = view[count:]
    parts = answer["geometry"]
    geometry = Geometry(
        tuple(parts["spacing"]),
        tuple(parts["origin"]),
        tuple(map(tuple, parts["direction"])),
        parts["unit"],
        parts["detector_plane"],
    )
    return Image(pixels, geometry, answer["meta"])


def _answer(path: Path) -> tuple[dict[str, Any], bytes | memoryview]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", ImageWarning)
        try:
            image = read_image(path)
        except MedsegError as error:
            image = None
            parts = (error.subject, error.problem, error.remedy)
    notes = [str(w.message) for w in caught]
    if image is None:
        return {"error": parts, "warnings": notes}, b""
    pixels = np.ascontiguousarray(image.pixels)
    return {
        "warnings": notes,
        "shape": pixels.shape,
        "dtype": pixels.dtype.str,
        "geometry": asdict(image.geometry),
        "meta": dict(image.meta),
    }, pixels.reshape(-1).view(np.uint8).data


def serve(requests: IO[bytes], replies: IO[bytes], limit: float = 0) -> None:
    """Say that all is loaded; then answer every path on ``requests``.

    A file that takes some seconds more than ``limit`` ends the process (not on
    Windows): the parent would have ended it, if it were still there.
    """
    replies.write(b"ready\n")
    replies.flush()
    for line in requests:
        _set_alarm(math.ceil(limit) + _GRACE if limit else 0)
        header, pixels = _answer(Path(json.loads(line)))
        _set_alarm(0)
        replies.write(json.dumps(header, default=str).encode() + b"\n")
        replies.write(pixels)
        replies.flush()


def _set_alarm(seconds: int) -> None:
    if hasattr(signal, "alarm"):
        signal.alarm(seconds)


def _main() -> None:
    # What a library prints must not end up between the answers.
    with os.fdopen(os.dup(1), "wb") as replies:
        os.dup2(2, 1)
        with suppress(ImportError, ValueError, OSError):
            import resource

            resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
        serve(sys.stdin.buffer, replies, float(sys.argv[1]))


if __name__ == "__main__":
    _main()
