"""How the cases of a run are taken through their stages on this machine."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from medseg.batch.items import Item
from medseg.batch.session import Run
from medseg.batch.work import Case

# Bytes of source files that may be in memory at once; a larger file goes alone.
_AHEAD_BYTES = 128 << 20


def loop(run: Run, todo: Sequence[Item]) -> None:
    """One case after the other, in the calling thread."""
    for item in todo:
        case = run.load(item)
        run.infer(case)
        run.save(case)


def threads(run: Run, todo: Sequence[Item]) -> None:
    """Read ahead, infer and write behind at the same time.

    The network runs in threads of its own, because Python answers to signals only
    between two calls of its main thread, and a forward pass can be a long call.
    """
    problems: list[BaseException] = []
    # Not Thread.join: interrupted once, it takes the thread for finished (3.11).
    finished = threading.Event()

    def body() -> None:
        try:
            _pipeline(run, todo)
        except BaseException as error:
            problems.append(error)
        finally:
            finished.set()

    threading.Thread(target=body, name="medseg-batch", daemon=True).start()
    try:
        while not finished.wait(0.1):
            pass
    except KeyboardInterrupt:
        run.stop.set()
        finished.wait()
        raise
    if problems:
        raise problems[0]


def _pipeline(run: Run, todo: Sequence[Item]) -> None:
    workers, streams = run.job.options.workers, run.job.predictor.streams
    turn = threading.Semaphore(streams)
    ends: deque[Future[None]] = deque()

    def end(case: Case) -> None:
        with turn:
            if run.stop.is_set():
                return  # as if never reached: a resume does it
            run.infer(case)
        try:
            run.save(case)
        except BaseException:
            run.stop.set()  # the disk is full: what waits would only fail as well
            raise

    with (
        ThreadPoolExecutor(workers, "medseg-read") as readers,
        ThreadPoolExecutor(workers + streams, "medseg-work") as pool,
    ):
        for case in _read_ahead(run, readers, todo):
            ends.append(pool.submit(end, case))
            large = case.item.size > _AHEAD_BYTES
            while ends and (large or len(ends) > 2 * streams or ends[0].done()):
                ends.popleft().result()
        for future in ends:
            future.result()


def _read_ahead(
    run: Run, readers: ThreadPoolExecutor, todo: Iterable[Item]
) -> Iterator[Case]:
    """Yield loaded cases in order, with a bounded number and size read ahead."""
    queue: deque[tuple[int, Future[Case]]] = deque()
    waiting = deque(todo)
    try:
        while (waiting or queue) and not run.stop.is_set():
            while waiting and _room(run, queue, waiting[0]):
                item = waiting.popleft()
                queue.append((item.size, readers.submit(run.load, item)))
            yield queue.popleft()[1].result()
    finally:
        for _, future in queue:
            future.cancel()


def _room(run: Run, queue: deque[tuple[int, Future[Case]]], item: Item) -> bool:
    if not queue:
        return True
    ahead = item.size + sum(size for size, _ in queue)
    return len(queue) <= run.job.options.workers and ahead <= _AHEAD_BYTES
