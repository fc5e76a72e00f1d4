"""A student's process as the grader sees it: started, asked, watched, and ended with all that it started."""

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

    Raises Unavailable where the imports fail, Interrupted when `stop` is set. `alive` until it was ended, `ended` says why
    where that was not by `close`.
    """

    def __init__(self, prelude: str, checks: Sequence[str], limits: Limits, stop: threading.Event | None = None) -> None:
        self._limits, self._stop = limits, stop or threading.Event()
        self._mark = secrets.token_hex(16)
        self._folder = tempfile.TemporaryDirectory(prefix="fliot-grade-", ignore_cleanup_errors=True)
        self._answers: queue.Queue[bytes | values.Malformed | None] = queue.Queue()
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
        try:
            threading.Thread(target=self._read, daemon=True).start()
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
        return [str(error)[:1000] for error in self._ask("define", cells, function)]

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
        threading.Thread(target=self._write, args=(message,), daemon=True).start()  # it may never read
        answer = self._next()
        try:
            given, kind, content = values.decode(answer) if isinstance(answer, bytes) else (None, "", answer)
        except (values.Malformed, ValueError, TypeError) as error:
            raise self._stopped(f"the process answered what cannot be read ({error})") from error
        if isinstance(content, values.Malformed):
            raise self._stopped(f"the process answered what cannot be read ({content})")
        if given != token:
            raise self._stopped("the process wrote answers of its own between those of your function")
        if kind != "done":
            raise Refused(str(content)[:2000])
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
        """Used memory of the process and its descendants in MB."""
        used = 0
        with contextlib.suppress(psutil.Error):  # it ended between being listed and being asked
            this = psutil.Process(self._process.pid)
            for process in [this, *this.children(recursive=True)]:
                used += process.memory_info().rss
        return used / 1e6

    def _read(self) -> None:
        """Puts each message into the queue, then None when no more can come."""
        stream = self._process.stdout
        assert stream is not None
        try:
            while (message := values.read_frame(stream)) is not None:
                self._answers.put(message)
        except values.Malformed as error:
            self._answers.put(error)
        except (OSError, ValueError):  # closed, because the process is being ended
            pass
        self._answers.put(None)

    def _write(self, message: bytes) -> None:
        stream = self._process.stdin
        assert stream is not None
        with contextlib.suppress(OSError, ValueError):  # it has ended, which the reader sees
            values.write_frame(stream, message)

    def close(self) -> None:
        """Ends the process with everything that it started, and removes its folder. Again is harmless."""
        if not self.alive:
            return
        self.alive = False
        if os.name == "posix":
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()
        self._process.wait()
        for _ in range(ROUNDS):  # what it put into sessions of their own, which may start more meanwhile
            if not (strays := list(_marked(self._mark))):
                break
            for process in strays:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            psutil.wait_procs(strays, timeout=1)
        for stream in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError, ValueError):  # what was not sent cannot be flushed
                stream.close()  # type: ignore[union-attr]
        self._folder.cleanup()


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
