"""A student's process as the grader sees it: started, asked, watched, and ended with what it started."""

import contextlib
import os
import pickle
import queue
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

import fliot_lab
from fliot_lab.course.checks import CheckFailed
from fliot_lab.course.grading import values

IMPORTS_LIMIT_S = 60.0
POLL_S = 0.05
ROUNDS = 50
LEAVE_S = 1.0  # for a thread to see that its line is closed
STRAY = "the process wrote answers of its own between those of your function"
MARK = "FLIOT_GRADING"  # in the environment of the process and of all that it starts
KEPT = ("PATH", "LANG", "LC_ALL", "SYSTEMROOT", "PATHEXT", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PYTHONHASHSEED")
THREADS = ("OMP", "MKL", "OPENBLAS", "NUMEXPR", "VECLIB_MAXIMUM")


class Refused(CheckFailed):
    """The student's process answers that something went wrong in there; the text says what."""


class Stopped(CheckFailed):
    """The student's process is gone, and the text says why. A CheckFailed, so that it passes through `checks.ask`."""


class Unavailable(Exception):
    """The lesson's own imports fail here, which is no student's fault."""


class Interrupted(BaseException):
    """The whole run is being stopped. No Exception, so that no check takes it for a student's error."""


@dataclass(frozen=True)
class Limits:
    """Of one exercise in seconds of wall-clock time; of the process and what it starts in MB (10**6 bytes) of used memory."""

    seconds: float = 10
    memory_mb: int = 2048


class Child:
    """A process in which a lesson's imports have run and exercises can be asked. Use as a context: it ends what it started.

    That is what is below it in the tree of processes, was there when it was last looked at, is in its group, or carries its
    mark. Code that sets out to leave all of that (another process that dropped its environment, and was orphaned in the
    moment between two looks or after prctl) outlives it.

    Raises Unavailable where the imports fail, Interrupted when `stop` is set. `alive` until it was ended, `ended` says why
    where that was not by `close`.
    """

    def __init__(self, prelude: str, checks: Sequence[str], limits: Limits, stop: threading.Event | None = None) -> None:
        self._limits, self._stop = limits, stop or threading.Event()
        self._mark = secrets.token_hex(16)
        self._folder = tempfile.TemporaryDirectory(prefix="fliot-grade-", ignore_cleanup_errors=True)
        self._answers: queue.Queue[bytes | values.Malformed | None] = queue.Queue(maxsize=1)
        self._started: set[psutil.Process] = set()
        self._writers: list[threading.Thread] = []
        self._deadline, self._limit_s = time.monotonic() + IMPORTS_LIMIT_S, IMPORTS_LIMIT_S
        self._look_again = 0.0
        self.alive, self.ended = True, ""
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "fliot_lab.course.grading.child"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd=self._folder.name,
                env=_environment(self._folder.name, self._mark),
                start_new_session=os.name == "posix",
            )
        except BaseException:
            self._folder.cleanup()
            raise
        self._reader = threading.Thread(target=self._read, daemon=True)
        try:
            self._reader.start()
            self.network_cut = bool(self._ask("prelude", prelude, list(checks)))
        except CheckFailed as error:
            self.close()
            raise Unavailable(f"the lesson's imports do not run here: {error}") from error
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "Child":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def begin(self, cells: dict[str, str], function: str) -> list[str]:
        """What the cells of one exercise raised, though `function` is defined. Its time runs from now.

        Raises Refused where the function is not defined, Stopped where the process had to be ended.
        """
        self._limit_s = self._limits.seconds
        self._deadline = time.monotonic() + self._limit_s
        errors = self._ask("define", cells, function)
        if not (isinstance(errors, list) and len(errors) <= len(cells) and all(isinstance(error, str) for error in errors)):
            raise self._stopped(STRAY)
        return [error[:1000] for error in errors]

    def call(self, function: str, *arguments: Any) -> Any:
        """What the student's function returns for `arguments`. Raises Refused, or Stopped, as `begin` does."""
        return self._ask("call", function, arguments)

    def end(self) -> None:
        """Nothing, where the process is still in step; Stopped where it said something that nobody had asked for."""
        self._ask("end")

    def _ask(self, request: str, *details: Any) -> Any:
        """The answer to a request."""
        if not self.alive:
            raise Stopped(self.ended)
        token = secrets.token_hex(8)
        try:
            message = pickle.dumps((token, request, *details))
        except (pickle.PicklingError, TypeError, AttributeError) as error:
            raise Refused(f"not graded: the check's arguments cannot be sent to your function ({error})") from error
        writer = threading.Thread(target=self._write, args=(message,), daemon=True)  # it may never read
        self._writers = [*(thread for thread in self._writers if thread.is_alive()), writer]
        writer.start()
        answer = self._next()
        try:
            if isinstance(answer, values.Malformed):
                raise answer
            given, kind, content = _parts(values.decode(answer))
        except values.Malformed as error:
            raise self._stopped(f"the process answered what cannot be read ({error})") from error
        if given != token:
            raise self._stopped(STRAY)
        if kind == "failed":
            raise Refused(content[:2000])
        return content

    def _next(self) -> bytes | values.Malformed:
        """The next message; Stopped where none comes because the process ends, or has to be ended."""
        while True:
            if self._stop.is_set():
                self.close()
                raise Interrupted
            now = time.monotonic()
            if now > self._deadline:
                raise self._stopped(f"ran longer than {self._limit_s:g} s and was stopped: a loop without end?")
            if now > self._look_again:
                self._look_again = now + POLL_S
                if self._used_mb() > self._limits.memory_mb:
                    raise self._stopped(f"used more than {self._limits.memory_mb:,} MB of memory and was stopped")
            try:
                answer = self._answers.get(timeout=POLL_S)
            except queue.Empty:
                if self._process.poll() is None:
                    continue
                answer = None  # something that it started holds the line open
            if answer is None:
                raise self._stopped(self._ending())
            return answer

    def _stopped(self, reason: str) -> Stopped:
        """The error to raise, after the process was ended; `ended` keeps why."""
        self.close()
        self.ended = reason
        return Stopped(reason)

    def _ending(self) -> str:
        """How a process ended that has closed its answers."""
        try:
            code = self._process.wait(1)
        except subprocess.TimeoutExpired:
            return "the process closed the line to the grader"
        if code < 0:
            name = signal.Signals(-code).name if -code in set(signal.Signals) else "unknown"
            return f"the process crashed: signal {-code} ({name})"
        return f"the process ended itself with exit code {code} (os._exit?)"

    def _used_mb(self) -> float:
        """Memory of the process and its descendants in MB; what they share counts once where that makes a difference."""
        family = self._family()
        self._started.update(family[1:])
        used = sum(map(_resident, family)) / 1e6
        return used if used <= self._limits.memory_mb else sum(map(_own_share, family)) / 1e6

    def _family(self) -> list[psutil.Process]:
        """The process and its descendants; nothing where it has ended, for its number may be somebody else's now."""
        with contextlib.suppress(psutil.Error):
            return _with_descendants(psutil.Process(self._process.pid)) if self._process.poll() is None else []
        return []

    def _read(self) -> None:
        """Puts each message into the queue, then None when no more can come."""
        stream = self._process.stdout
        assert stream is not None
        try:
            while (message := values.read_frame(stream)) is not None:
                self._put(message)
        except values.Malformed as error:
            self._put(error)
        except (OSError, ValueError):  # closed, because the process is being ended
            pass
        self._put(None)

    def _put(self, answer: bytes | values.Malformed | None) -> None:
        """Puts an answer into the queue once there is room; nowhere when nobody will take it any more."""
        while self.alive:
            with contextlib.suppress(queue.Full):
                return self._answers.put(answer, timeout=POLL_S)
        return None

    def _write(self, message: bytes) -> None:
        stream = self._process.stdin
        assert stream is not None
        with contextlib.suppress(OSError, ValueError):  # it has ended, which the reader sees
            values.write_frame(stream, message)

    def close(self) -> None:
        """Ends the process with what it started (see the class), and removes its folder. Again is harmless."""
        if not self.alive:
            return
        self.alive = False
        self._end_started()
        if os.name == "posix":
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()
        self._process.wait()
        for threads, stream in ((self._writers, self._process.stdin), ([self._reader], self._process.stdout)):
            for thread in threads:
                with contextlib.suppress(RuntimeError):  # never begun
                    thread.join(LEAVE_S)
            if not any(thread.is_alive() for thread in threads):  # closing waits for them; what outlives us may hold the line
                with contextlib.suppress(OSError, ValueError):  # what was not sent cannot be flushed
                    stream.close()  # type: ignore[union-attr]
        with contextlib.suppress(RecursionError):  # folders in folders, made to stay
            self._folder.cleanup()

    def _end_started(self) -> None:
        """Ends what the process started. It stands still meanwhile and starts no more, and orphans come to it."""
        if os.name == "posix" and self._process.poll() is None:
            self._process.send_signal(signal.SIGSTOP)
        for _ in range(ROUNDS):  # what is ended may have started more meanwhile
            below = set(self._family()[1:])
            for process in filter(_runs, {*self._started, *_marked(self._mark)} - below):  # the process itself has ended
                below.update(_with_descendants(process))
            self._started = set(filter(_runs, below))
            if not self._started:
                break
            for process in self._started:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            time.sleep(POLL_S / 5)


def _parts(answer: Any) -> tuple[str, str, Any]:
    """(token, "done", value) or (token, "failed", text). Raises values.Malformed for anything else."""
    if not isinstance(answer, list) or len(answer) != 3:
        raise values.Malformed("it is no answer")
    token, kind, content = answer
    if type(token) is not str or type(kind) is not str or not (kind == "done" or (kind == "failed" and type(content) is str)):
        raise values.Malformed("it is no answer")
    return token, kind, content


def _with_descendants(process: psutil.Process) -> list[psutil.Process]:
    """A process and its descendants; nothing where it has ended."""
    with contextlib.suppress(psutil.Error):
        return [process, *process.children(recursive=True)]
    return []


def _runs(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):  # it has ended, and somebody was told so
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def _resident(process: psutil.Process) -> int:
    """Bytes of memory in use, shared ones included; 0 for a process that ended meanwhile."""
    with contextlib.suppress(psutil.Error):
        return int(process.memory_info().rss)
    return 0


def _own_share(process: psutil.Process) -> int:
    """Bytes of memory in use, each shared page divided among those that share it; without the shared ones, or with all,
    where the system tells no more. Slower than `_resident`."""
    with contextlib.suppress(psutil.AccessDenied):
        try:
            found = process.memory_full_info()
        except psutil.NoSuchProcess:
            return 0
        return int(getattr(found, "pss", found.uss))
    return _resident(process)


def _marked(mark: str) -> Iterator[psutil.Process]:
    """Living processes whose environment holds this mark."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):  # somebody else's, or just gone
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                yield process


def _environment(folder: str, mark: str) -> dict[str, str]:
    """The environment of a student's process: one thread for each library, no accelerator, a home that goes with it."""
    import matplotlib

    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    places = [str(Path(fliot_lab.__file__).resolve().parent.parent), os.environ.get("PYTHONPATH", "")]
    return {
        **kept,
        **{f"{library}_NUM_THREADS": "1" for library in THREADS},
        "POLARS_MAX_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "HOME": folder,
        "USERPROFILE": folder,
        "TMPDIR": folder,
        "TEMP": folder,
        "MPLBACKEND": "Agg",
        "MPLCONFIGDIR": matplotlib.get_cachedir(),  # the list of fonts takes seconds to make
        "PYTHONPATH": os.pathsep.join(filter(None, places)),
        "PYTHONIOENCODING": "utf-8",
        MARK: mark,
    }
