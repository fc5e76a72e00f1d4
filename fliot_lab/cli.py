"""`fliot ...`: the course's and the package's commands. Heavy libraries are imported by the command that needs them."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, add_completion=False, help="FLIoT Lab: federated learning for IoT security.")
data = typer.Typer(no_args_is_help=True, help="Captures: fetch real ones, simulate, convert.")
course = typer.Typer(no_args_is_help=True, help="Lessons: build and run them.")
app.add_typer(data, name="data")
app.add_typer(course, name="course")


def _fail(error: Exception) -> typer.Exit:
    """The exit for an error that the person can do something about; its text is all they need to see."""
    typer.echo(f"fliot: {error}", err=True)
    return typer.Exit(1)


@data.command("fetch")
def data_fetch(
    captures: Annotated[
        list[str] | None, typer.Argument(help="Names, short (34-1) or full. Default: the nine small ones.")
    ] = None,
    study: Annotated[bool, typer.Option(help="The first 100,000 rows of every capture, as the published study took.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="Every row of all 23 captures (over 50 GB).")] = False,
    yes: Annotated[bool, typer.Option(help="Agree to the data set's terms without being asked.")] = False,
    root: Annotated[Path | None, typer.Option(help="Folder to fetch into. Default: data/raw.")] = None,
) -> None:
    """Fetch real IoT-23 captures from their laboratory. Shows terms and citation first."""
    from fliot_lab.data import download, iot23

    if (study or everything) and captures:
        raise typer.BadParameter("--study and --all take every capture; name captures or give one of the two")
    if study and everything:
        raise typer.BadParameter("--study is the beginning of every capture, --all the whole of it; choose one")
    names = captures or ("all" if study or everything else None)
    try:
        iot23.fetch(names, iot23.STUDY_ROWS if study else None, root=root, consent=yes)
    except (iot23.ConsentMissing, download.DownloadError, ValueError, OSError) as error:
        raise _fail(error) from error


@data.command("sample")
def data_sample(
    out: Annotated[Path, typer.Argument(help="New folder for the simulated captures.")],
    seed: Annotated[int, typer.Option(help="Equal seeds give equal files.")] = 7,
    size: Annotated[int, typer.Option(help="Flows in all captures together.")] = 40_000,
) -> None:
    """Simulate eight captures in IoT-23's layout."""
    from fliot_lab.data import sample

    try:
        for path in sample.generate(out, seed=seed, size=size):
            typer.echo(path)
    except (ValueError, OSError) as error:
        raise _fail(error) from error


@data.command("parquet")
def data_parquet(log: Annotated[Path, typer.Argument(help="A conn log, however large.")], out: Path) -> None:
    """Convert a conn log to Parquet in bounded memory."""
    from fliot_lab.data import zeek

    try:
        typer.echo(f"{zeek.to_parquet(log, out):,} flows in {out}")
    except (ValueError, OSError) as error:
        raise _fail(error) from error


@course.command("build")
def course_build() -> None:
    """Make notebooks/*.ipynb from notebooks/source/*.py."""
    from fliot_lab.course import build

    for path in build.build():
        typer.echo(path)


@course.command("run")
def course_run(
    profile: Annotated[str, typer.Option(help="fast or full")] = "fast",
    data: Annotated[str, typer.Option(help="auto, sample or iot23")] = "auto",
    lessons: Annotated[str, typer.Option(help='Numbers, as "01 03". Default: all.')] = "",
    seed: Annotated[int, typer.Option(help="Every random choice of a lesson comes from it.")] = 7,
    reference: Annotated[bool, typer.Option("--reference", help="Keep the numbers as results/reference.json.")] = False,
) -> None:
    """Execute the lessons with papermill and write results/RESULTS.md."""
    from fliot_lab.course import run
    from fliot_lab.data import iot23

    try:
        raise typer.Exit(run.run(profile, data, lessons.replace(",", " ").split(), seed, keep_as_reference=reference))
    except (iot23.DataMissing, ValueError) as error:
        raise _fail(error) from error


if __name__ == "__main__":
    app()
