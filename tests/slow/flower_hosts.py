"""Hosts for tests: network namespaces of this machine, each with a wire to the SuperLink's and to no other.

Run as process 1 of namespaces of its own, so that all ends with it: `unshare --map-root-user --net --mount --pid --fork
--kill-child --mount-proc python flower_hosts.py FOLDER PLAN`. The folder holds ca.crt, a public key for each node, an app and
logs; the plan is JSON with `commands` (host -> what it runs) and `healthy` (what ends with 0 when the SuperLink is up). Prints
what became of the run.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

LINK, ADDRESS = "superlink", "10.77.0.1"


def said(*arguments: object) -> None:
    subprocess.run([str(part) for part in arguments], check=True)


def within(host: int, *arguments: object) -> list[str]:
    """A command for the host whose first process is `host`."""
    return ["nsenter", "-t", str(host), "-n", *map(str, arguments)]


def begun() -> int:
    """A host without a wire: the number of a process that does nothing in it."""
    made, ours = subprocess.Popen(["unshare", "--net", "sleep", "600"]), os.readlink("/proc/self/ns/net")
    until(lambda: os.readlink(f"/proc/{made.pid}/ns/net") != ours, "a namespace", 10)
    return made.pid


def until(true: Callable[[], object], what: str, limit_s: float = 90) -> None:
    end = time.monotonic() + limit_s
    while not true():
        if time.monotonic() > end:
            raise SystemExit(f"waited {limit_s:g} s for {what}")
        time.sleep(0.2)


def wired(hosts: dict[str, int]) -> None:
    """Draws a wire from the SuperLink's host to each other one."""
    link = hosts[LINK]
    said(*within(link, "ip", "link", "set", "lo", "up"))
    said(*within(link, "ip", "address", "add", f"{ADDRESS}/32", "dev", "lo"))
    for number, host in enumerate(hosts.values()):
        if host == link:
            continue
        address, wire = f"10.77.0.{10 + number}", f"wire{number}"
        said("ip", "link", "add", wire, "netns", link, "type", "veth", "peer", "name", "eth0", "netns", host)
        said(*within(link, "ip", "link", "set", wire, "up"))
        said(*within(link, "ip", "route", "add", f"{address}/32", "dev", wire))
        said(*within(host, "ip", "link", "set", "lo", "up"))
        said(*within(host, "ip", "address", "add", f"{address}/32", "dev", "eth0"))
        said(*within(host, "ip", "link", "set", "eth0", "up"))
        said(*within(host, "ip", "route", "add", f"{ADDRESS}/32", "dev", "eth0"))


def main(folder: Path, commands: dict[str, list[str]], healthy: list[str]) -> None:
    (folder / "hosts").write_text(f"127.0.0.1 localhost\n{ADDRESS} {LINK}\n")
    said("mount", "--bind", folder / "hosts", "/etc/hosts")  # for these processes alone
    hosts = {name: begun() for name in commands}
    wired(hosts)

    def start(name: str) -> subprocess.Popen[bytes]:
        with (folder / f"{name}.log").open("wb") as log:
            return subprocess.Popen(within(hosts[name], *commands[name]), stdout=log, stderr=log)

    def flwr(*arguments: str) -> dict:
        """What `flwr` says on the SuperLink's host."""
        words = within(hosts[LINK], "flwr", *arguments, "--format", "json")
        done = subprocess.run(words, capture_output=True, text=True, timeout=90, check=False)
        told = json.loads(done.stdout) if not done.returncode else {}
        if not told.get("success"):
            raise SystemExit(f"flwr {' '.join(arguments)}: {done.stdout}{done.stderr}")
        return told

    running = {LINK: start(LINK)}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    until(lambda: subprocess.run(within(hosts[LINK], *healthy), **quiet).returncode == 0, "the SuperLink")
    for name in commands:
        if name != LINK:
            flwr("supernode", "register", str(folder / f"{name}.pub"), "there")
            running[name] = start(name)
    until(
        lambda: sum(node["status"] == "online" for node in flwr("supernode", "list", "there")["nodes"]) == len(hosts) - 1,
        "the SuperNodes",
    )
    number = flwr("run", str(folder / "app"), "there")["run-id"]

    def status() -> str:
        return flwr("list", "there", "--run-id", number)["runs"][0]["status"]

    until(lambda: status().startswith("finished"), "the end of the run", 150)
    print(json.dumps({"status": status(), "ended": [name for name, process in running.items() if process.poll() is not None]}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), **json.loads(sys.argv[2]))
