"""The system calls of simulated programs: what they do in steps, each a few calls, and in which order they do it.

A program is a Markov chain over actions; an action is a fixed sequence of calls in which some repeat. Numbers are those of
Linux on 32-bit ARM (arch/arm/tools/syscall.tbl). Which calls an action makes follows from what it does; how often it is done
is chosen. Attacks have the six names of ADFA-LD (Creech and Hu 2013) and are models of what those names mean, on a device.
"""

import zlib
from collections.abc import Mapping
from functools import cache

import numpy as np
import numpy.typing as npt
from numpy.random import Generator

from fliot_lab.data.sample.things import Thing

NORMAL = "normal"
_TABLE = """
exit:1 read:3 write:4 open:5 close:6 link:9 unlink:10 execve:11 chmod:15 lseek:19 getpid:20 access:33 kill:37
rename:38 pipe:42 brk:45 ioctl:54 umask:60 dup2:63 getppid:64 setsid:66 gettimeofday:78 readlink:85 munmap:91
fchmod:94 wait4:114 sysinfo:116 fsync:118 clone:120 uname:122 mprotect:125 _llseek:140 _newselect:142 writev:146
sched_yield:158 nanosleep:162 poll:168 rt_sigaction:174 rt_sigprocmask:175 ugetrlimit:191 mmap2:192 stat64:195
lstat64:196 fstat64:197 getuid32:199 geteuid32:201 setgroups32:206 fchown32:207 setuid32:213 setgid32:214
getdents64:217 madvise:220 fcntl64:221 gettid:224 futex:240 exit_group:248 epoll_ctl:251 epoll_wait:252
set_tid_address:256 clock_gettime:263 tgkill:268 socket:281 bind:282 connect:283 accept:285 getsockname:286
send:289 sendto:290 recv:291 recvfrom:292 shutdown:293 setsockopt:294 getsockopt:295 sendmsg:296 recvmsg:297
"""
#: Name -> number of each system call that occurs.
NUMBERS = {name: int(number) for name, number in (entry.split(":") for entry in _TABLE.split())}

#: Action -> its calls; a star repeats a call, three times on average.
ACTIONS = {
    "start": "execve brk access open fstat64 mmap2 close open read fstat64 mmap2* mprotect close set_tid_address "
    "rt_sigaction rt_sigprocmask ugetrlimit brk brk",
    "wait": "clock_gettime poll clock_gettime",
    "sleep": "rt_sigprocmask rt_sigaction rt_sigprocmask nanosleep",
    "select": "gettimeofday _newselect gettimeofday",
    "epoll": "epoll_wait clock_gettime epoll_ctl",
    "threads": "futex* sched_yield futex",
    "sense": "open ioctl* read close",
    "frame": "ioctl poll ioctl read* write",
    "log": "open _llseek write close stat64",
    "settings": "open fstat64 mmap2 read* close munmap",
    "save": "open fstat64 write* fsync close rename",
    "encrypted": "clock_gettime send poll recv* clock_gettime",
    "plain": "send recv* gettimeofday",
    "connect": "socket fcntl64 connect poll getsockopt fcntl64",
    "resolve": "open read close socket connect send poll recvfrom close",
    "serve": "accept fcntl64 recv* stat64 open fstat64 read* send* close shutdown close",
    "announce": "sendto recvfrom clock_gettime",
    "list": "open getdents64* lstat64* close",
    "script": "pipe clone close read* wait4 close",
    "command": "clone rt_sigprocmask dup2 dup2 execve wait4 rt_sigprocmask",
    "login": "accept clone close getpid read* write* geteuid32 setgroups32 setgid32 setuid32 open read* close",
    "heap": "mmap2 madvise munmap brk",
    "clean": "stat64 unlink lstat64 access",
    # What the attacks add. A guess fails, so that it is a login without its end.
    "guess over FTP": "accept fcntl64 clone close getsockname write read* write read* open read* close write exit_group wait4",
    "guess over SSH": "accept clone close getpid _newselect read* write* _newselect open fstat64 read* close write close",
    "add a user": "open fcntl64 fstat64 read* close access link unlink open write* fsync fchmod fchown32 close rename umask",
    "become": "getuid32 geteuid32 setuid32 setgid32 setgroups32 execve brk open",
    "stage": "socket connect recv* mmap2 mprotect recv* mprotect",
    "ask the stage": "poll recv recv* uname getuid32 getpid send",
    "look around": "open getdents64* close stat64* readlink open read* close",
    "virtual machine": "futex* gettimeofday mmap2 mprotect madvise gettid clock_gettime futex",
    "collect garbage": "futex tgkill sched_yield* mprotect futex*",
    "page": "accept recv* gettimeofday stat64* open fstat64 read* mmap2 munmap close writev close",
    "shell of a page": "pipe clone close dup2 dup2 execve read* wait4 writev close",
}

#: Attack -> how often each action is done in it. Most of it the device does by itself as well, more rarely.
ATTACKS: Mapping[str, Mapping[str, float]] = {
    "Adduser": {"add a user": 3, "become": 1, "command": 2, "settings": 1, "save": 1, "list": 0.5},
    "Hydra_FTP": {"guess over FTP": 6, "log": 1.5, "sleep": 1, "resolve": 0.3},
    "Hydra_SSH": {"guess over SSH": 6, "log": 1.5, "heap": 1, "select": 1},
    "Java_Meterpreter": {"virtual machine": 4, "collect garbage": 2, "ask the stage": 1.5, "look around": 0.7, "threads": 1},
    "Meterpreter": {"stage": 0.6, "ask the stage": 3, "look around": 2, "wait": 2, "command": 0.4},
    "Web_Shell": {"page": 3, "shell of a page": 2, "command": 1, "look around": 0.7, "settings": 0.5},
}
KINDS = (NORMAL, *ATTACKS)
#: How often a device does what an attacker does too: a forgotten password, an update, somebody who administers it.
RARE = {
    "login": 0.15,
    "command": 0.25,
    "guess over SSH": 0.06,
    "look around": 0.12,
    "page": 0.2,
    "add a user": 0.02,
    "become": 0.03,
}
STICKS = 0.35  # probability that an action is done once more


def habits(thing: Thing) -> dict[str, float]:
    """How often a device does each action: what its network traffic implies, and what its maker's programs are like."""
    weights = {"wait": 3, "sleep": 2, "select": 2, "epoll": 2, "threads": 2, "sense": 3, "frame": 1, "heap": 1.5, "list": 0.4}
    weights |= {"log": 1.5, "settings": 0.7, "save": 0.3, "script": 0.5, "clean": 0.4, "connect": 0.6, "resolve": 0.5} | RARE
    weights["encrypted"] = 0.5 + 0.15 * sum(call.rounds * call.times for call in thing.calls if call.form == "tls")
    weights["plain"] = 0.3 + 0.15 * sum(call.rounds * call.times for call in thing.calls if call.form != "tls")
    weights["serve"] = 0.2 + (0.05 * thing.app.rounds if thing.app else 0)
    weights["announce"] = 0.2 + 0.1 * (thing.announced + 3 * thing.notified)
    # A maker's types share their program; each has a little of its own.
    shared, own = (np.random.default_rng(zlib.crc32(name.encode())) for name in (thing.maker, thing.name))
    names = sorted(weights)
    factors = np.exp(shared.normal(0, 0.6, len(names)) + own.normal(0, 0.12, len(names)))
    return {name: weights[name] * factor for name, factor in zip(names, factors.tolist(), strict=True)}


def trace(rng: Generator, thing: Thing, kind: str, length: int) -> npt.NDArray[np.int64]:
    """`length` system calls, by number, of the device's own program, or of one that an attack of `kind` is part of."""
    calls: list[int] = list(_once(rng, "start")) if rng.random() < 0.4 else []
    own = _Chooser(rng, habits(thing))
    hostile = own if kind == NORMAL else _Chooser(rng, ATTACKS[kind])
    # An attack takes from a quarter to three quarters of what it enters, in stretches.
    share = 0.0 if kind == NORMAL else rng.uniform(0.25, 0.75)
    attacking = False
    action = own.next()
    while len(calls) < length:
        calls += _once(rng, action)
        if rng.random() >= STICKS:
            if rng.random() < 0.2:
                attacking = rng.random() < share
            action = (hostile if attacking else own).next()
    return np.asarray(calls[:length], dtype=np.int64)


class _Chooser:
    """Actions drawn by weight, many at a time, for speed."""

    def __init__(self, rng: Generator, weights: Mapping[str, float]) -> None:
        self.rng, self.names = rng, list(weights)
        self.shares = np.fromiter(weights.values(), float) / sum(weights.values())
        self.drawn: list[int] = []

    def next(self) -> str:
        if not self.drawn:
            self.drawn = self.rng.choice(len(self.names), 64, p=self.shares).tolist()
        return self.names[self.drawn.pop()]


@cache
def _steps(action: str) -> tuple[tuple[int, bool], ...]:
    """(number, whether it repeats) of each call of an action."""
    return tuple((NUMBERS[step.rstrip("*")], step.endswith("*")) for step in ACTIONS[action].split())


def _once(rng: Generator, action: str) -> list[int]:
    """The calls of an action done once."""
    calls: list[int] = []
    for number, repeats in _steps(action):
        calls += [number] * (int(rng.geometric(1 / 3)) if repeats else 1)
    return calls
