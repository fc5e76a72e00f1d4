"""One end of a TCP connection: its state, its numbers, and the bytes that it sent, as far as they came or were acknowledged."""

from bisect import bisect_left

INACTIVE, SYN_SENT, SYN_ACK_SENT, PARTIAL, ESTABLISHED, CLOSED, RESET = range(7)
HANDSHAKE = (INACTIVE, SYN_SENT, SYN_ACK_SENT)

#: Bytes at the beginning of a stream in which a service is looked for (Zeek's dpd_buffer_size).
HEAD_BYTES = 1024


def ahead(one: int, other: int) -> int:
    """How far sequence number `one` is ahead of `other` (modulo 2**32), from -2**31 to below 2**31. RFC 1982."""
    return ((one - other + 0x80000000) & 0xFFFFFFFF) - 0x80000000


class Stream:
    """The bytes of one direction, numbered from 1 as they would be after a SYN: which came, and which never will."""

    __slots__ = ("ended", "given_up", "head", "held", "pending", "seq", "trimmed")

    def __init__(self) -> None:
        self.seq = 1  # all before has been delivered, or is known to be missing
        self.trimmed = 1  # all before has been acknowledged
        self.pending: list[tuple[int, int]] = []  # beyond a hole: first byte, one past the last; apart and in order
        self.held = 0  # bytes in them
        self.head = b""
        self.ended = self.given_up = False

    @property
    def waiting(self) -> bool:
        """Whether bytes have come that were not acknowledged."""
        return self.seq > self.trimmed or bool(self.pending)

    def insert(self, first: int, payload: bytes) -> None:
        """Takes bytes that came; what came before is passed over."""
        stop = first + len(payload)
        if first <= self.seq < stop and len(self.head) == self.seq - 1 < HEAD_BYTES:
            self.head += payload[self.seq - first :][: HEAD_BYTES - len(self.head)]
        first = max(first, self.trimmed)
        if first > self.seq:
            self._hold(first, stop)
        elif stop > self.seq:
            self.seq = stop
            self._deliver()

    def _hold(self, first: int, stop: int) -> None:
        """Keeps first..stop for later, less what is kept already."""
        at = bisect_left(self.pending, (first, 0))
        if at and self.pending[at - 1][1] > first:
            first = self.pending[at - 1][1]
        while first < stop:
            until = min(stop, self.pending[at][0]) if at < len(self.pending) else stop
            if first < until:
                self.pending.insert(at, (first, until))
                self.held += until - first
                at += 1
            if until == stop:
                break
            first = self.pending[at][1]
            at += 1

    def _deliver(self) -> None:
        """Goes on to what is pending without a hole."""
        while self.pending and self.pending[0][0] <= self.seq:
            first, stop = self.pending.pop(0)
            self.held -= stop - first
            self.seq = max(self.seq, stop)

    def acknowledge(self, seq: int) -> list[int]:
        """The lengths of the holes before `seq`, which the other end says it has; they will not be filled."""
        holes = []
        while self.pending and self.pending[0][0] < seq:
            holes.append(self.pending[0][0] - self.seq)
            self.seq = self.pending[0][0]
            self._deliver()
        if seq > self.seq:
            holes.append(seq - self.seq)
            self.seq = seq
        self.trimmed = seq
        self._deliver()
        return holes

    def give_up(self) -> None:
        """Keeps nothing from now on, and misses nothing."""
        self.given_up = True
        self.pending.clear()
        self.held, self.trimmed = 0, self.seq


class Endpoint:
    """One end of a connection. Sequence numbers go on beyond 2**32, so that they can be subtracted."""

    __slots__ = (
        "acked",
        "closed",
        "counts",
        "fin_seq",
        "fins",
        "ip_bytes",
        "last",
        "marks",
        "packets",
        "previous",
        "start",
        "state",
        "stream",
    )

    def __init__(self) -> None:
        self.state = self.previous = INACTIVE
        self.start = self.last = self.acked = 0  # the SYN's number, one past what was sent, what the other end has
        self.fins = self.fin_seq = self.packets = self.ip_bytes = 0
        self.closed = False
        self.counts: dict[str, int] = {}  # letter -> how often, of those that are written at 1, 10, 100 ...
        self.marks: dict[str, int] = {}  # letter -> the sequence number of the last packet that it stands for
        self.stream = Stream()

    def begin(self, seq: int, last: int) -> None:
        """Starts its numbers: `seq` is the SYN's, seen or not."""
        self.start = self.acked = seq
        self.last = last

    @property
    def size(self) -> int:
        """Bytes of payload that it sent, by the sequence numbers."""
        size = max(self.last, self.acked) - self.start
        size -= size > 0  # the SYN
        size -= size > 0 and self.fins > 0
        return max(size, 0)

    @property
    def clean(self) -> bool:
        """Whether a hole in its stream is a loss, and not the doing of a strange beginning or end."""
        return self.state == ESTABLISHED or (self.state == CLOSED and self.previous == ESTABLISHED)
