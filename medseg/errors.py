"""Every error that medseg raises on purpose: one line, and an exit code.

The line reads ``<what it is about>: <what is wrong, with numbers>. <what to do>.``
"""

from __future__ import annotations

from enum import IntEnum
from typing import Self


class ExitCode(IntEnum):
    """Exit codes of the command line."""

    DONE = 0
    SOME_FAILED = 1
    USAGE = 2
    LOCKED = 3
    DISK = 4
    CANCELLED = 130


def printable(text: object) -> str:
    """Return ``text`` with control bytes and escape sequences made visible."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(text))


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: ``1 frame``, ``2 frames``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


class MedsegError(Exception):
    """An error with a subject (a path or a field), a cause and a remedy."""

    exit_code = ExitCode.USAGE

    def __init__(self, subject: object, problem: str, remedy: str = "") -> None:
        self.subject = printable(subject)
        self.problem = printable(problem).rstrip(".")
        self.remedy = printable(remedy).rstrip(".")
        super().__init__(str(self))

    def __str__(self) -> str:
        return f"{self.subject}: {self.text}"

    @property
    def text(self) -> str:
        """What is wrong and what to do, for a table that names the subject."""
        if not self.remedy:
            return f"{self.problem}."
        end = "" if self.remedy.endswith("?") else "."
        return f"{self.problem}. {self.remedy}{end}"

    def bare(self) -> Self:
        """Return the error without its traceback, whose frames hold whole images."""
        return type(self)(self.subject, self.problem, self.remedy)

    def __reduce__(self) -> tuple[type[MedsegError], tuple[str, str, str]]:
        return type(self), (self.subject, self.problem, self.remedy)


class FileError(MedsegError):
    """A file that cannot be read, or a result that cannot be written."""

    exit_code = ExitCode.SOME_FAILED


class ConfigError(MedsegError):
    """A configuration, argument or value that cannot be used; names the field."""


class ModelError(MedsegError):
    """A model folder that is not loaded."""


class PlanError(MedsegError):
    """A batch that cannot start; nothing has been written."""


class LockedError(MedsegError):
    """Another run holds the output folder."""

    exit_code = ExitCode.LOCKED


class DiskError(MedsegError):
    """The disk is full or the output folder is not writable."""

    exit_code = ExitCode.DISK


class ImageWarning(UserWarning):
    """Something about a file that is unusual and was read by a stated rule."""
