"""Napari's side of the worker: starts it, feeds it, notices when it is gone.

No Qt: a widget polls its `Job` from a timer. Everything slow, as reading the image
and copying it to shared memory, happens in one thread for each worker process.
"""

from __future__ import annotations

import atexit
import itertools
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import cache

from medseg.errors import MedsegError
from medseg.image import Image
from medseg.napari_plugin.worker.child import COMMAND, Child
from medseg.napari_plugin.worker.job import Cancelled, Failed, Job, Stack
from medseg.napari_plugin.worker.protocol import Devices, Message, Options
from medseg.napari_plugin.worker.run import Run

_WARM = 0  # the number of a job that only loads a model


class WorkerClient:
    """Runs jobs one after the other in a worker process.

    The process starts with the first job or :meth:`warm`, keeps its models, and is
    started again when it has ended.

    Args:
        grace: Seconds after which a worker that does not obey a cancel is killed. It
            is the time of a tile on a busy machine; the next one loads the model anew.
        command: The worker's program.
    """

    def __init__(self, grace: float = 8.0, command: Sequence[str] = COMMAND) -> None:
        self._grace, self._command = grace, tuple(command)
        self._numbers = itertools.count(_WARM + 1)
        self._lock = threading.RLock()
        self._child: Child | None = None
        self._pump = threading.Thread()
        self._active: Job | None = None
        self._run: Run | None = None
        self._waiting: deque[Job] = deque()
        self._last: tuple[str, Options] | None = None
        self._deadline: threading.Timer | None = None
        self.devices: Devices | None = None
        self.last_end = ""

    @property
    def pid(self) -> int | None:
        """Number of the worker process, None if there is none."""
        child = self._child
        return child.pid if child is not None else None

    @property
    def idle(self) -> bool:
        """Whether the worker has no job, not even the last tile of a cancelled one."""
        return self._active is None

    def start(self) -> None:
        """Start the process if there is none; returns at once."""
        with self._lock:
            self._ensure()

    def warm(self, model: str, options: Options | None = None) -> None:
        """Load a model in the background, so that the first run need not wait.

        What is wrong with it is said when it is run.
        """
        with self._lock, suppress(OSError):
            self._last = (model, options or Options())
            self._open(_WARM)

    def predict(
        self, image: Image | Stack, model: str, options: Options | None = None
    ) -> Job:
        """Start or queue a run; returns at once.

        Args:
            image: A volume goes through a 2-D model slice by slice.
            model: A shipped name or a folder.
            options: How to run, and what is wanted beside the mask.
        """
        job = Job(next(self._numbers), image, model, options or Options(), self._cancel)
        with self._lock:
            self._waiting.append(job)
            self._go_on()
        return job

    def close(self) -> None:
        """Cancel every job and end the process; it starts again when needed."""
        with self._lock:
            child, pump, self._last = self._child, self._pump, None
            for job in [*self._waiting, *filter(None, [self._active])]:
                job.tell(Cancelled())
            self._waiting.clear()
        if child is not None:
            child.kill()
            pump.join()

    # These run with the lock held, in any thread.

    def _ensure(self) -> Child:
        if self._child is None:
            self._child = child = Child(self._command)
            self._pump = threading.Thread(
                target=self._listen, args=(child,), daemon=True, name="medseg-worker"
            )
            self._pump.start()
            # Before the interpreter takes the thread's pipe away.
            atexit.register(self.close)
        return self._child

    def _open(self, number: int) -> None:
        assert self._last is not None  # set by both callers
        model, options = self._last
        self._ensure().say(do="open", job=number, model=model, options=asdict(options))

    def _go_on(self) -> None:
        while self._active is None and self._waiting:
            self._active = job = self._waiting.popleft()
            self._last = (job.model, job.options)
            try:
                self._open(job.id)
            except OSError as error:  # no memory for a process, or no program
                self._active = None
                job.tell(Failed(f"The worker cannot be started: {error}"))

    def _cancel(self, job: Job) -> None:
        with self._lock:
            if job in self._waiting:
                self._waiting.remove(job)
            elif job is self._active and not job.finished:
                self._stop_worker(job)
            job.tell(Cancelled())

    def _stop_worker(self, job: Job) -> None:
        child = self._ensure()
        child.say(do="cancel", job=job.id)
        # A model that is being loaded is worth waiting for.
        if job.state == "running":
            self._deadline = threading.Timer(self._grace, child.kill)
            self._deadline.daemon = True
            self._deadline.start()

    # These run in the worker's thread.

    def _listen(self, child: Child) -> None:
        for message in child.messages():
            if message["event"] == "devices":
                self.devices = Devices(message["cpu"], message["gpu"])
                continue
            job = self._active
            # The answer to a warm has no job.
            if job is not None and message["job"] == job.id:
                self._hear(job, child, message)
        self._bury(child)

    def _hear(self, job: Job, child: Child, message: Message) -> None:
        if message["event"] == "cancelled":
            self._release()
        elif job.finished:
            return  # the word that it was cancelled is on its way
        elif message["event"] == "failed":
            job.tell(Failed(message["message"]))
            self._release()
        else:
            try:
                self._advance(job, child, message)
            except MedsegError as error:
                self._give_up(job, child, str(error))
            # The image may be anything that looks like an array; what it raises
            # when it is read ends the job, not the thread.
            except Exception as error:
                kind = type(error).__name__
                self._give_up(job, child, f"The image cannot be read: {kind}: {error}")

    def _advance(self, job: Job, child: Child, message: Message) -> None:
        event = message["event"]
        if event == "opened":
            self._run = Run(job, child, message)
            self._run.start()
            return
        assert self._run is not None  # the worker has answered to its start
        if event == "started":
            self._run.feed()
        elif event == "progress":
            self._run.progress(message["index"], message["done"], message["total"])
        elif event == "item":
            self._run.collect(message["index"], message["slot"])
        elif event == "done":
            self._run.done(message["provenance"])
            self._release()

    def _give_up(self, job: Job, child: Child, reason: str) -> None:
        with self._lock:
            if not job.finished:  # else a cancel has been sent already
                child.say(do="cancel", job=job.id)
                job.tell(Failed(reason))

    def _release(self) -> None:
        """Clear up after the active job and begin the next one."""
        if self._run is not None:
            self._run.close()
            self._run = None
        with self._lock:
            if self._deadline is not None:
                self._deadline.cancel()
                self._deadline = None
            self._active = None
            self._go_on()

    def _bury(self, child: Child) -> None:
        end = child.bury()
        with self._lock:
            self._child = None
            atexit.unregister(self.close)
            if not child.killed:
                self.last_end = f"The worker ended ({end})"
                job = self._active
                if job is not None:
                    again = "Nothing drawn is lost; the next run starts a new one"
                    job.tell(Failed(f"{self.last_end}. {again}.", crashed=True))
            self._release()
            # Killed for a cancel: be ready again before the user is.
            if child.killed and self._child is None and self._last is not None:
                with suppress(OSError):
                    self._open(_WARM)


@cache
def shared_client() -> WorkerClient:
    """Return the client of this napari; making it starts no process."""
    return WorkerClient()
