"""`fliot ...`: the course's and the package's commands. Heavy libraries are imported by the command that needs them."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, add_completion=False, help="FLIoT Lab: federated learning for IoT security.")
data = typer.Typer(no_args_is_help=True, help="Captures: fetch real ones, simulate, convert.")
course = typer.Typer(no_args_is_help=True, help="Lessons: build, run, check, hand out, grade.")
app.add_typer(data, name="data")
app.add_typer(course, name="course")
flower = typer.Typer(no_args_is_help=True, help="Federations on Flower: a server and its nodes as processes.")
app.add_typer(flower, name="flower")


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
    size: Annotated[int, typer.Option(help="Flows in all captures together.")] = 60_000,
    scenario: Annotated[
        str | None, typer.Option(help="home, hospital, factory or city. Default: one device a capture.")
    ] = None,
    malware: Annotated[
        str | None,
        typer.Option(help='Families that infect a device, a capture for each: "mirai okiru torii hakai hide-and-seek".'),
    ] = None,
) -> None:
    """Simulate captures in IoT-23's layout: the default set of eight, or a scenario's network with and without malware."""
    from fliot_lab.data import sample

    try:
        families = None if malware is None else malware.replace(",", " ").split()
        for path in sample.generate(out, seed=seed, size=size, scenario=scenario, malware=families):
            typer.echo(path)
    except (ValueError, OSError) as error:
        raise _fail(error) from error


@data.command("setups")
def data_setups(
    out: Annotated[Path, typer.Argument(help="New folder for the simulated packets.")],
    seed: Annotated[int, typer.Option(help="Equal seeds give equal files.")] = 7,
    setups: Annotated[int, typer.Option(help="Set-ups of each device.")] = 20,
) -> None:
    """Simulate the packets of 25 devices while they are set up, as pcap files."""
    from fliot_lab.data.sample.setups import generate_setups

    try:
        typer.echo(f"{len(generate_setups(out, seed, setups=setups))} simulated set-ups in {out}")
    except (ValueError, OSError) as error:
        raise _fail(error) from error


@data.command("hosts")
def data_hosts(
    out: Annotated[Path, typer.Argument(help="New folder for the simulated records.")],
    seed: Annotated[int, typer.Option(help="Equal seeds give equal files.")] = 7,
    hours: Annotated[float, typer.Option(help="Length of each device's telemetry.")] = 24,
) -> None:
    """Simulate what the devices' own computers report: telemetry, and traces of system calls."""
    from fliot_lab.data.sample.hosts import write_hosts

    try:
        typer.echo(f"{len(write_hosts(out, seed, hours=hours))} simulated files in {out}")
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


@app.command("fingerprint")
def fingerprint(
    capture: Annotated[Path | None, typer.Argument(help="A capture of one device, pcap or pcapng.")] = None,
    host: Annotated[bool, typer.Option("--host", help="This machine instead, by its telemetry.")] = False,
    known: Annotated[
        Path | None,
        typer.Option(help="Folder of <Device>/Setup-*.pcap (of <device>-<unit>.csv with --host). Default: simulated ones."),
    ] = None,
    device: Annotated[str | None, typer.Option(help="The device's Ethernet address. Default: who joins the network.")] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Answer again each time the capture grows.")] = False,
    idle: Annotated[float, typer.Option(help="With --follow: end after so many seconds without a new packet.")] = 30,
    seconds: Annotated[int, typer.Option(help="With --host: observe for so many seconds.", min=10)] = 60,
    seed: Annotated[int, typer.Option(help="Of the classifier, and of the simulated devices.")] = 7,
) -> None:
    """Say which known device a capture, or this machine, is most like, how sure that is, and because of what."""
    import warnings

    from fliot_lab.data import setups
    from fliot_lab.data.packets import PacketWarning
    from fliot_lab.features.devices import hosts, packets
    from fliot_lab.models import live

    if (capture is None) != host:
        raise typer.BadParameter("name a capture, or give --host")
    if host and (follow or device):
        raise typer.BadParameter("--follow and --device are about a capture, not about --host")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PacketWarning)  # `fliot data flows` tells what is damaged
            if capture is not None and not follow:
                packets.read(capture, device)  # refuse a bad one before anything is learnt
            if known is None:
                typer.echo(f"Known are SIMULATED devices, made from seed {seed}: name yours with --known", err=True)
            if host:
                enrolled = live.enrol_hosts(known, seed=seed)
                frame = hosts.observe(seconds, 1.0)
                typer.echo(live.told(live.identify(enrolled, hosts.fingerprint(frame, window=len(frame))[0])))
                return
            enrolled = live.enrol(known or setups.locate("sample", seed=seed).root, seed=seed)
            assert capture is not None
            frames = live.follow(capture, device=device, idle=idle) if follow else [packets.read(capture, device)]
            answered = False
            for frame in frames:
                if len(frame):
                    answer = live.identify(enrolled, packets.fingerprint(frame)[0])
                    typer.echo(f"{len(frame)} packets: {live.told(answer)}")
                    answered = True
            if not answered:
                raise ValueError(f"{capture}: there is no packet of the device to go by")
    except (ValueError, OSError) as error:
        raise _fail(error) from error


@app.command("train")
def train(
    logs: Annotated[list[Path], typer.Argument(help="Conn logs, or folders that hold them. Each counts as a network.")],
    out: Annotated[Path, typer.Argument(help="New folder for the model.")],
    features: Annotated[str, typer.Option(help="context (what a host did before counts) or flows.")] = "context",
    false_alarm_rate: Annotated[float, typer.Option(help="Share of benign flows that may be flagged.")] = 0.01,
    benign: Annotated[bool, typer.Option("--benign", help="Assert that every flow is harmless.")] = False,
    contradictions: Annotated[
        str, typer.Option(help='Benign flows between the two hosts of an attack: "as given", dropped or relabelled.')
    ] = "as given",
    seed: Annotated[int, typer.Option(help="Equal seeds give equal models.")] = 7,
) -> None:
    """Learn to detect attacks from your own conn logs, with or without labels, and judge that on logs left out."""
    from fliot_lab.models import training

    def say(line: str) -> None:
        typer.echo(line, err=True)

    try:
        trained = training.train(
            logs,
            out,
            seed=seed,
            features=features,
            false_alarm_rate=false_alarm_rate,
            benign=benign,
            contradictions=contradictions,
            say=say,
        )
    except (ValueError, OSError) as error:
        raise _fail(error) from error
    typer.echo(training.told(trained))


@app.command("detect")
def detect(
    log: Annotated[Path, typer.Argument(help="A conn log, with or without labels.")],
    model: Annotated[Path, typer.Option(help="Folder that `fliot train` wrote.")],
    out: Annotated[Path | None, typer.Option(help="File for the alarms, .csv or .jsonl.")] = None,
) -> None:
    """Say which flows of a conn log are suspicious, and what they are taken for."""
    from fliot_lab.models import saved
    from fliot_lab.models.saved import alerts

    try:
        if out is not None:
            alerts.check_suffix(out)
        served = saved.load(model)
        found = alerts.detect(log, served)
        typer.echo(alerts.told(found))
        if served.card["training"].get("simulated"):
            typer.echo("The model learnt from SIMULATED flows: its answers say nothing about a real network", err=True)
        if out is not None:
            typer.echo(f"{alerts.write(found, out):,} alarms in {out}")
    except (ValueError, OSError) as error:
        raise _fail(error) from error


@data.command("flows")
def data_flows(
    capture: Annotated[Path, typer.Argument(help="Packets, as pcap or pcapng.")],
    out: Annotated[Path, typer.Argument(help="New conn log; compressed where it ends in .gz.")],
    ignore_checksums: Annotated[
        bool, typer.Option("--ignore-checksums", help="Believe packets with wrong ones, as of the capturing machine itself.")
    ] = False,
) -> None:
    """Convert packets to a conn log, as Zeek would write it."""
    import warnings

    from fliot_lab.data import packets, zeek

    try:
        if out.resolve() == capture.resolve():
            raise ValueError(f"{out} is the capture itself; name another file for the conn log")
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always", packets.PacketWarning)
            seen = packets.read_packets(capture)
        flows = packets.to_conn_log(seen, ignore_checksums=ignore_checksums)
        zeek.write_conn_log(flows, out)
    except (ValueError, OSError) as error:
        raise _fail(error) from error
    for warning in told:
        typer.echo(f"fliot: {warning.message}", err=True)
    wrong = int(seen["checksum"].isin(["wrong", "ip wrong"]).sum())
    if wrong and not ignore_checksums:
        typer.echo(f"fliot: {capture}: {wrong:,} packets with wrong checksums do not count; see --ignore-checksums", err=True)
    typer.echo(f"{len(flows):,} flows from {len(seen):,} packets in {out}")


@course.command("build")
def course_build() -> None:
    """Make notebooks/*.ipynb from notebooks/source/*.py, and the versions with solutions in build/."""
    from fliot_lab.course import build, template

    try:
        for path in build.build():
            typer.echo(path)
        gaps = [f"{lesson.source.name} lacks {gap}" for lesson in build.lessons() for gap in template.missing(lesson.source)]
    except (ValueError, OSError) as error:
        raise _fail(error) from error
    for gap in gaps:
        typer.echo(gap, err=True)
    if gaps:
        raise typer.Exit(1)


@course.command("run")
def course_run(
    profile: Annotated[str, typer.Option(help="fast or full")] = "fast",
    data: Annotated[str, typer.Option(help="auto, sample or iot23")] = "auto",
    lessons: Annotated[str, typer.Option(help='Numbers, as "01 03". Default: all.')] = "",
    seed: Annotated[int, typer.Option(help="Every random choice of a lesson comes from it.")] = 7,
    reference: Annotated[bool, typer.Option("--reference", help="Keep the numbers as results/reference.json.")] = False,
    shuffle: Annotated[int | None, typer.Option(help="Run in an order drawn with this number.")] = None,
) -> None:
    """Execute the lessons with papermill and write results/RESULTS.md."""
    from fliot_lab.course import run
    from fliot_lab.data import iot23

    numbers = lessons.replace(",", " ").split()
    try:
        raise typer.Exit(run.run(profile, data, numbers, seed, keep_as_reference=reference, shuffle=shuffle))
    except (iot23.DataMissing, ValueError) as error:
        raise _fail(error) from error


@course.command("check")
def course_check(
    number: Annotated[str, typer.Argument(help="The lesson's number, as 03.")],
    work: Annotated[Path | None, typer.Option(help="Folder with your notebooks. Default: work, or where you are.")] = None,
) -> None:
    """Check the exercises that you solved in a lesson."""
    from fliot_lab.course import grading

    try:
        folder = work or (Path("work") if Path("work").is_dir() else Path())
        raise typer.Exit(grading.check_lesson(number.zfill(2), folder))
    except (ValueError, OSError) as error:
        raise _fail(error) from error


@course.command("grade")
def course_grade(
    submissions: Annotated[Path, typer.Argument(help="Folder with one folder or zip per student.")],
    out: Annotated[Path, typer.Option(help="Folder for grades.csv and a page per student.")] = Path("grades"),
    lessons: Annotated[str, typer.Option(help='Numbers, as "01 03". Default: all.')] = "",
    limit_s: Annotated[float, typer.Option(help="Seconds that one exercise may take.")] = 10,
    memory_mb: Annotated[int, typer.Option(help="Memory that one submission may take.")] = 2048,
    jobs: Annotated[int, typer.Option(help="Students graded at a time.")] = 2,
) -> None:
    """Grade a folder of submissions. Runs students' code in limited processes; this is not a sandbox."""
    from fliot_lab.course import grading

    numbers = lessons.replace(",", " ").split()
    try:
        path = grading.grade(submissions, out, numbers=numbers, limit_s=limit_s, memory_mb=memory_mb, jobs=jobs)
    except (ValueError, OSError) as error:
        raise _fail(error) from error
    typer.echo(path)


@course.command("release")
def course_release(out: Annotated[Path, typer.Argument(help="Folder for the zip.")]) -> None:
    """Pack what students get: lessons without solutions, the package, how to get data."""
    from fliot_lab.course import release

    try:
        typer.echo(release.release(out))
    except (ValueError, OSError) as error:
        raise _fail(error) from error


@flower.command("up")
def flower_up(
    nodes: Annotated[int, typer.Option(help="SuperNodes to start.")] = 3,
    secure: Annotated[bool, typer.Option("--secure", help="TLS, and nodes that are known by their keys.")] = False,
    run: Annotated[bool, typer.Option("--run", help="Run the study once, print what it measured, and stop.")] = False,
    rounds: Annotated[int, typer.Option(help="Rounds of that run.")] = 5,
    data: Annotated[str, typer.Option(help="auto, sample or iot23")] = "auto",
    folder: Annotated[Path | None, typer.Option(help="For keys and logs; kept. Default: a temporary one.")] = None,
    port: Annotated[int | None, typer.Option(help="The SuperLink's. Default: a free one.")] = None,
    limit_s: Annotated[float, typer.Option(help="Seconds that a run may take.")] = 600,
) -> None:
    """Start a SuperLink and its SuperNodes on this machine, until Ctrl-C."""
    import signal

    from fliot_lab.data import iot23
    from fliot_lab.federation.flower import deploy

    for number in deploy.STOPPING:  # all as Ctrl-C: nothing is left running
        if signal.getsignal(number) != signal.SIG_IGN:  # as under nohup
            signal.signal(number, signal.default_int_handler)
    try:
        settings = {"data": iot23.locate(data).name, "nodes": nodes, "rounds": rounds, "timeout": limit_s}
        with deploy.Deployment(nodes, secure=secure, folder=folder, port=port) as there:
            how = "TLS, nodes known by their keys" if secure else "no TLS, any node may join"
            typer.echo(f"SuperLink on {there.address} ({how}), {nodes} SuperNodes, logs in {there.folder}", err=True)
            if run:
                outcome = there.run(settings, limit_s=limit_s)
                for row in outcome.history["rounds"]:
                    typer.echo(", ".join(f"{name} {value:.4g}" for name, value in row.items()))
                typer.echo(f"{rounds} rounds in {outcome.seconds:.0f} s", err=True)
                return
            typer.echo(f"From another terminal: {there.command}\nCtrl-C stops all.", err=True)
            for line in there.follow():
                typer.echo(line)
    except (deploy.DeploymentError, iot23.DataMissing, ValueError, OSError) as error:
        raise _fail(error) from error
    except KeyboardInterrupt:
        typer.echo("stopped", err=True)


if __name__ == "__main__":
    app()
