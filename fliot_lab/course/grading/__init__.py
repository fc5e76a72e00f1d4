"""Grading: exercise cells run in a process of their own, with limits; the verdict is made here, by the lesson's own check.

The exercises of one student in one lesson share a process, and with it the modules that it has imported: what one of them
changes in a module the next ones see. Other students and lessons do not.

This is not a sandbox. A student's code can read and write what the account that grades can, and can end its processes. Where
the system allows it, it has no network. Who grades strangers uses an account, or a machine, that holds nothing else.

Nothing is imported here before it is needed: the students' process begins with this module.
"""

import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fliot_lab.course.grading import process, reference, report, submissions


def check_lesson(number: str, work: Path, *, limit_s: float = 10, memory_mb: int = 2048) -> int:
    """0 when all core exercises of lesson `number` pass in the notebook in `work`, else 1. Prints a line for each exercise.

    Raises FileNotFoundError where the notebook is missing, ValueError where it is none or the lesson has no exercises.
    """
    from fliot_lab.course.grading import process, reference, submissions, verdict

    found = reference.lessons([number])
    if not found:
        raise ValueError(f"lesson {number} has no exercises")
    path = work / f"{found[0].name}.ipynb"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; make lab copies the lessons there")
    cells = submissions.notebook_cells(path)
    with verdict.quiet_checks():
        graded = verdict.of_lesson(found[0], cells, process.Limits(limit_s, memory_mb))
    for result in graded.verdicts:
        print(f"{result.task.column} {result.task.heading.title}: {'passed' if result.passed else 'not yet'}")
        lines = [*([] if result.passed else [result.message]), *(f"note: {note}" for note in result.notes)]
        for line in "\n".join(lines).splitlines():
            print(f"    {line}")
    return int(not all(result.passed for result in graded.verdicts if not result.task.heading.extra))


def grade(
    submissions: Path,
    out: Path,
    *,
    numbers: list[str] | None = None,
    limit_s: float = 10,
    memory_mb: int = 2048,
    jobs: int = 2,
) -> Path:
    """The path of out/grades.csv, a row for each student in `submissions`; out/pages/ has a page for each.

    The notebooks that were run, with the lesson's imports and the student's exercise cells, are kept in out/notebooks/.
    `limit_s` is of one exercise, `memory_mb` of one student's process, `jobs` how many students are graded at a time. All
    files of a student are whole when the student is done, so that what stops the run loses nothing. Raises ValueError where
    there is nothing to grade or to grade by, and where `out` lies in `submissions`.
    """
    from fliot_lab.course.grading import process, reference, verdict
    from fliot_lab.course.grading import submissions as reading

    lessons = reference.lessons(numbers)
    if not lessons:
        raise ValueError("no lesson asked for has exercises")
    if out.resolve().is_relative_to(submissions.resolve()):
        raise ValueError(f"{out} lies in {submissions}, where it would be taken for a hand-in; choose another folder")
    hand_ins, others = reading.hand_ins(submissions)
    if others:
        _say(f"passed over, no folder and no .zip: {', '.join(others)}")
    limits, stop = process.Limits(limit_s, memory_mb), threading.Event()
    (out / "pages").mkdir(parents=True, exist_ok=True)
    with verdict.quiet_checks():
        _grade_all(lambda hand_in: _student(hand_in, lessons, limits, stop), hand_ins, lessons, out, jobs, stop)
    return out / "grades.csv"


def _grade_all(
    student: "Callable[[submissions.HandIn], report.Student]",
    hand_ins: "Sequence[submissions.HandIn]",
    lessons: "Sequence[reference.Lesson]",
    out: Path,
    jobs: int,
    stop: threading.Event,
) -> None:
    """Grades the hand-ins, `jobs` at a time, and writes what is known after each."""
    from tqdm import tqdm

    from fliot_lab.course.grading import report

    pages = report.page_names(hand_in.student for hand_in in hand_ins)
    done: list[report.Student] = []
    bar = tqdm(total=len(hand_ins), desc="grading", unit="student", disable=None)  # None: no bar where no terminal is
    with bar, ThreadPoolExecutor(max(1, jobs)) as threads:
        try:
            for future in _as_completed([threads.submit(student, hand_in) for hand_in in hand_ins]):
                graded = future.result()
                if report.NOT_CUT in graded.all_remarks() and not any(report.NOT_CUT in old.all_remarks() for old in done):
                    _say(report.NOT_CUT)
                done.append(graded)
                report.write(out / "pages" / pages[graded.name], report.page(graded))
                report.write_notebooks(out / "notebooks" / Path(pages[graded.name]).stem, graded)
                report.write(out / "grades.csv", report.table(done, lessons))
                bar.update()
                if bar.disable:
                    passed, total = graded.score(extra=False)
                    _say(f"{len(done)}/{len(hand_ins)} {graded.name}: {passed} of {total} core exercises")
        except BaseException:
            stop.set()  # the threads end their processes
            threads.shutdown(wait=True, cancel_futures=True)
            raise


def _as_completed(futures: "Sequence[Future[report.Student]]") -> "Iterator[Future[report.Student]]":
    """The futures as they are done. Looks up twice a second: libraries that handle signals themselves (polars does) leave a
    thread that waits for ever deaf to Ctrl-C."""
    pending = set(futures)
    while pending:
        done, pending = wait(pending, timeout=0.5, return_when=FIRST_COMPLETED)
        yield from done


def _student(
    hand_in: "submissions.HandIn", lessons: "Sequence[reference.Lesson]", limits: "process.Limits", stop: threading.Event
) -> "report.Student":
    """One student's verdicts on all the lessons; on those without a notebook, too."""
    from fliot_lab.course.grading import report, verdict
    from fliot_lab.course.grading import submissions as reading

    try:
        cells, remarks = reading.exercise_cells(hand_in, lessons)
        graded = [
            verdict.of_lesson(lesson, cells[lesson.name], limits, stop)
            if lesson.name in cells
            else verdict.none_passed(lesson, "no notebook that can be read")
            for lesson in lessons
        ]
    except Exception as error:  # a mistake of the grader's: this student's remark, and the others are graded
        reason = f"not graded: the grader failed with {type(error).__name__}: {error}"
        return report.Student(hand_in.student, [verdict.none_passed(lesson, reason) for lesson in lessons], (reason,))
    return report.Student(hand_in.student, graded, tuple(remarks))


def _say(text: str) -> None:
    from tqdm import tqdm

    tqdm.write(text, file=sys.stderr)
