"""TCP connections as Zeek follows them: the states of both ends, the history, the timers and when it is over.

The rules are Zeek's (versions 3 and 4, default settings): the documentation of conn.log tells what states and letters mean,
Zeek's TCP analyzer, endpoint and reassembler what becomes of a packet. Names of states and timers are Zeek's.
"""

from typing import NamedTuple

from fliot_lab.data.packets import services
from fliot_lab.data.packets.endpoints import (
    CLOSED,
    ESTABLISHED,
    HANDSHAKE,
    INACTIVE,
    PARTIAL,
    RESET,
    SYN_ACK_SENT,
    SYN_SENT,
    Endpoint,
    ahead,
)

FIN, SYN, RST, ACK = 1, 2, 4, 16

# Microseconds, under Zeek's names.
ATTEMPT_DELAY = SYN_TIMEOUT = CLOSE_DELAY = LINGER = 5_000_000
SESSION_TIMER = 6_000_000
INACTIVITY = 300_000_000

#: A SYN or RST whose sequence number is further away is not believed (bytes).
_FAR = 1 << 20
#: More than this above a hole that nobody acknowledges, and the stream is given up (Zeek's max_above_hole_without_any_acks).
_ABOVE_HOLE = 16_384

Side = tuple[str, int]  # address and port


class Packet(NamedTuple):
    """What a connection is told of one packet. Ports of ICMP are as Zeek has them."""

    micros: int
    source: Side
    target: Side
    right: bool  # its checksum is, or is not known
    flags: int
    seq: int
    ack: int
    window: int
    ip_bytes: int
    length: int  # of the payload, by the IP header
    payload: bytes  # what was captured of it


class Tcp:
    """A connection, from its first packet on. `timers` holds those to be set, (when, which), for whoever keeps the time."""

    def __init__(self, packet: Packet, orig: Side, resp: Side, history: str):
        self.start = self.last = packet.micros
        self.orig_id, self.resp_id = orig, resp
        self.orig, self.resp = Endpoint(), Endpoint()
        self.history = history
        self.missed = 0
        self.generation = 0  # timers of an earlier one are cancelled
        self.timers = [(self.start + SYN_TIMEOUT, "expire")]
        self._first_seen: set[bool] = set()
        self._partial = self._deferred = self._deferred_event = False
        self._active = True

    # --- timers ---------------------------------------------------------------------------------------------------------

    def expired(self, which: str, now: int) -> bool:
        """Whether the connection is over now that this timer has run out; if not, the timer may be set again."""
        orig, resp = self.orig, self.resp
        if which == "delete":
            return True
        if which == "inactive":
            if self.last + INACTIVITY <= now:
                return True
            self.timers.append((self.last + INACTIVITY, "inactive"))
            return False
        if not self._active:
            return False
        if which == "attempt":
            return orig.state in (SYN_SENT, SYN_ACK_SENT) and resp.state == INACTIVE
        if self.last + LINGER < now:
            states = (orig.state, resp.state)
            if orig.closed and resp.closed:
                return True
            if (orig.closed or resp.closed) and (RESET in states or INACTIVE in states):
                return True
            if states == (INACTIVE, INACTIVE):
                return True
        self.timers.append((now + SESSION_TIMER, "expire"))
        return False

    def reused(self, packet: Packet) -> bool:
        """Whether the packet begins another connection between the same ports."""
        if not packet.flags & SYN:
            return False
        orig, resp = self.orig, self.resp
        end = orig
        if packet.flags & ACK:
            if orig.state != INACTIVE:
                return False
            end = resp
        if orig.closed and resp.closed:
            return True
        if ahead(packet.seq, end.start) == 0:
            return False
        reversal = orig.state == SYN_ACK_SENT and resp.state == INACTIVE and ahead(packet.seq, resp.start) == 0
        return bool(packet.flags & ACK) or not reversal

    # --- packets --------------------------------------------------------------------------------------------------------

    def packet(self, packet: Packet) -> None:
        """Follows one packet. One with a wrong checksum leaves a letter and nothing else."""
        sends = packet.source == self.orig_id
        end, peer = (self.orig, self.resp) if sends else (self.resp, self.orig)
        if not packet.right:
            self._scaled("C", end)
            return
        flags = packet.flags
        self._note_beginning(flags, sends)
        stop = packet.seq + (0 if flags & RST else packet.length) + bool(flags & SYN) + bool(flags & FIN)
        self._number(end, flags, packet.seq, stop)
        seq = end.last + ahead(packet.seq, end.last) - end.start
        self._letters(end, peer, packet, seq)
        if not (self.orig.closed and self.resp.closed):
            self.last = packet.micros
        if flags & FIN:
            end.fins += 1
            end.fin_seq = seq + stop - packet.seq
        if flags & ACK:
            self._acknowledged(peer, packet)
        self._advance(end, flags, stop, packet.length)
        closing, event = self._follow(end, peer, packet, sends)
        if packet.length and not flags & RST and seq >= 0 and not end.stream.given_up:
            self._data(end, seq + bool(flags & SYN), packet)
        self._check_end(end)
        if closing:
            self._close(end, peer, event)
        end.packets += 1
        end.ip_bytes += packet.ip_bytes

    def _note_beginning(self, flags: int, sends: bool) -> None:
        """Notes whether the beginning was missed, from the first packet of each side."""
        if sends and True not in self._first_seen:
            self._partial = not flags & SYN or bool(flags & ACK)
        elif not sends and False not in self._first_seen and not self._partial:
            self._partial = not flags & SYN
        self._first_seen.add(sends)

    def _number(self, end: Endpoint, flags: int, seq: int, stop: int) -> None:
        """Starts the end's numbers where this packet is its first, or a SYN that says otherwise."""
        if end.state == INACTIVE:
            end.begin(seq if flags & SYN else seq - 1, stop)
        elif flags & SYN:
            anew = end.state in (SYN_SENT, SYN_ACK_SENT) and ahead(seq, end.start) != 0
            anew |= end.state in (ESTABLISHED, PARTIAL)
            if anew or (end.state == RESET and end.previous == INACTIVE):
                end.begin(seq, stop)

    def _letters(self, end: Endpoint, peer: Endpoint, packet: Packet, seq: int) -> None:
        """Writes the packet's letters into the history."""
        flags = packet.flags
        if (control := flags & (SYN | FIN | RST)) in (SYN, FIN, RST):
            kind = {SYN: "S", FIN: "F", RST: "R"}[control]
            at = seq + packet.length * (control == FIN)
            if end.marks.get(kind) != at:
                self._write("H" if control == SYN and flags & ACK else kind, end)
            end.marks[kind] = at
        elif control:
            self._once("I" if control & FIN and control & RST else "Q", end)
        elif packet.length:
            self._once("D", end)
        elif flags & ACK:
            self._once("A", end)
        if not packet.window and not flags & RST and peer.state != CLOSED and end.state != RESET:
            self._scaled("W", end)

    def _acknowledged(self, peer: Endpoint, packet: Packet) -> None:
        """Tells the other end's numbers and stream what this packet acknowledges."""
        if peer.state == INACTIVE:
            peer.begin(packet.ack - 1, packet.ack - 1)
            seq = 1
        else:
            step = ahead(packet.ack, peer.acked)
            seq = peer.acked + step - peer.start
            if seq < 0:
                seq = 0
            elif step > 0 and not packet.flags & RST and not (packet.ack == 0 and step > _FAR):
                peer.acked += step
        if peer.fins and seq >= peer.fin_seq:
            seq = peer.fin_seq - 1
        stream = peer.stream
        if seq <= stream.trimmed:
            return
        if seq > stream.seq and seq <= 2 and self._partial:
            stream.trimmed = seq  # the first acknowledgement of a stream whose beginning was missed
        else:
            for hole in stream.acknowledge(seq):
                self._hole(peer, hole)
        self._check_end(peer)

    def _hole(self, end: Endpoint, length: int) -> None:
        """Counts bytes that were lost before they were captured."""
        other = self.resp if end is self.orig else self.orig
        if end.clean and other.clean and not end.stream.given_up:
            self._scaled("G", end)
            self.missed += length

    def _advance(self, end: Endpoint, flags: int, stop: int, length: int) -> None:
        """Moves the end's last number on, or notes that it sends something again."""
        step = ahead(stop, end.last)
        if flags & (SYN | RST) and abs(step) > _FAR:
            return
        if flags & FIN and end.last == end.start + 1:
            end.last += (stop - end.last) & 0xFFFFFFFF
        elif end.state != RESET:
            if step > 0:
                end.last += step
            elif step < 0 and length:
                self._scaled("T", end)

    def _data(self, end: Endpoint, seq: int, packet: Packet) -> None:
        """Puts the payload into the stream, unless it was captured in part only."""
        if len(packet.payload) < packet.length:
            return
        stream = end.stream
        if seq + packet.length > end.acked - end.start:
            stream.insert(seq, packet.payload)
        silent = end.acked - end.start <= 1
        if silent and end.size > _ABOVE_HOLE:  # the other end's packets are not in this capture: wait for none of them
            stream.trimmed = max(stream.trimmed, stream.seq)
        if silent and stream.held > _ABOVE_HOLE:
            stream.give_up()

    # --- states ---------------------------------------------------------------------------------------------------------

    def _follow(self, end: Endpoint, peer: Endpoint, packet: Packet, sends: bool) -> tuple[bool, bool]:
        """Whether the packet closes its end, and whether that is an ordinary close; both ends get their new states."""
        flags = packet.flags
        if end.state == INACTIVE:
            return self._from_inactive(end, peer, packet, sends)
        if end.state in (SYN_SENT, SYN_ACK_SENT):
            if flags & FIN:
                self._set(end, peer, CLOSED)
            if flags & RST:
                self._set(end, peer, RESET)
                self._active = False
            return bool(flags & (FIN | RST)), bool(flags & FIN)
        if end.state in (ESTABLISHED, PARTIAL):
            return self._from_established(end, peer, flags)
        if end.state == CLOSED and flags & RST and peer.state != CLOSED:
            self._set(end, peer, RESET)
            return not end.closed, False
        return False, False

    def _from_inactive(self, end: Endpoint, peer: Endpoint, packet: Packet, sends: bool) -> tuple[bool, bool]:
        flags, closing, event = packet.flags, False, False
        if flags & SYN and sends:
            self._set(end, peer, SYN_ACK_SENT if flags & ACK else SYN_SENT)
            self.timers.append((packet.micros + ATTEMPT_DELAY, "attempt"))
        elif flags & SYN:
            if not flags & ACK and peer.state == SYN_ACK_SENT and ahead(packet.seq, end.start) == 0:
                self._flip()  # the SYN was captured after its answer
                self._set(peer, end, ESTABLISHED)
            elif peer.state == SYN_SENT:
                self._set(peer, end, ESTABLISHED)
            self._set(end, peer, ESTABLISHED)
        if flags & FIN:
            self._set(end, peer, CLOSED)
            closing = event = True
        if flags & RST:
            self._set(end, peer, RESET)
            rejects = peer.state == ESTABLISHED if sends else peer.state in (SYN_SENT, SYN_ACK_SENT)
            closing, event = True, not rejects
        if end.state == INACTIVE and (sends or packet.length or self.orig.state != SYN_SENT):
            established = flags & ACK and peer.state == ESTABLISHED  # only the SYN was missed
            self._partial = self._partial and not established
            self._set(end, peer, ESTABLISHED if established else PARTIAL)
        return closing, event

    def _from_established(self, end: Endpoint, peer: Endpoint, flags: int) -> tuple[bool, bool]:
        if flags & SYN and not flags & ACK and end.state == PARTIAL and peer.state == INACTIVE:
            self._set(end, peer, SYN_SENT)
        if flags & FIN and not flags & RST:
            self._set(end, peer, CLOSED)
            if peer.state == RESET and peer.previous == CLOSED:
                self._set(peer, end, CLOSED)  # a RST after a FIN was an ordinary end
        if flags & RST:
            self._set(end, peer, RESET)
            self._active &= peer.state == RESET and peer.previous == ESTABLISHED
        return bool(flags & (FIN | RST)), bool(flags & FIN and not flags & RST)

    def _set(self, end: Endpoint, peer: Endpoint, state: int) -> None:
        if state == end.state:
            return
        if state not in HANDSHAKE and end.state in HANDSHAKE and peer.state in HANDSHAKE:
            self.timers.append((self.last + INACTIVITY, "inactive"))
        end.previous, end.state = end.state, state

    def _flip(self) -> None:
        """Makes the responder the originator."""
        self.orig, self.resp = self.resp, self.orig
        self.orig_id, self.resp_id = self.resp_id, self.orig_id
        self._partial = False
        self.history += "^"

    # --- the end --------------------------------------------------------------------------------------------------------

    def _waits(self, end: Endpoint) -> bool:
        """Whether the end sent bytes that have not come, or has not acknowledged some that did."""
        peer = self.resp if end is self.orig else self.orig
        if end.stream.given_up:
            return False
        sent = end.last - end.start
        if sent >= end.stream.seq and end.stream.seq not in (sent - 1, sent):
            return True
        return sent >= end.stream.seq and end.state != RESET and peer.stream.waiting

    def _check_end(self, end: Endpoint) -> None:
        """Goes on with a close that waited for the end's bytes, once they have come."""
        closing = end.fins > 0 or end.state in (CLOSED, RESET)
        if not end.stream.ended and closing and not self._waits(end):
            end.stream.ended = True
            if self._deferred:
                self._close(end, self.resp if end is self.orig else self.orig, self._deferred_event)
                self._deferred = False

    def _close(self, end: Endpoint, peer: Endpoint, event: bool) -> None:
        """Closes one end, and sets the timer after which the connection is forgotten where that is the end of it."""
        self._deferred = self._waits(end)
        if self._deferred:
            self._deferred_event |= event
            return
        if end.closed:
            return
        end.closed = True
        if end.state == RESET or peer.closed or peer.state == INACTIVE:
            if end.previous != INACTIVE or peer.state != INACTIVE:
                self._active &= not (event or self._deferred_event)
                self._deferred_event = False
            self.generation += 1
            self.timers = [(self.last + CLOSE_DELAY, "delete")]
        elif end.previous != INACTIVE:
            self.timers.append((self.last + SESSION_TIMER, "expire"))

    @property
    def conn_state(self) -> str:
        """Zeek's word for how the connection went."""
        o, r = self.orig.state, self.resp.state
        o_quiet, r_quiet = o in (INACTIVE, PARTIAL), r in (INACTIVE, PARTIAL)
        if r == RESET:
            rejected = o in (SYN_SENT, SYN_ACK_SENT) or (o == RESET and not self.orig.size and not self.resp.size)
            return "REJ" if rejected else "RSTRH" if o_quiet else "RSTR"
        if o == RESET:
            return "RSTOS0" if r_quiet else "RSTO"
        if o == CLOSED:
            return "SF" if r == CLOSED else "SH" if r_quiet else "S2"
        if r == CLOSED:
            return "SHR" if o_quiet else "S3"
        return {(SYN_SENT, INACTIVE): "S0", (ESTABLISHED, ESTABLISHED): "S1"}.get((o, r), "OTH")

    @property
    def service(self) -> str | None:
        """What was spoken, as far as the beginnings of the streams tell; Zeek asks nobody who was missed at the beginning."""
        if self._partial:
            return None
        return services.of_stream(self.resp_id[1], self.orig.stream.head, self.resp.stream.head)

    # --- letters --------------------------------------------------------------------------------------------------------

    def _write(self, letter: str, end: Endpoint) -> None:
        self.history += letter if end is self.orig else letter.lower()

    def _once(self, letter: str, end: Endpoint) -> None:
        if letter not in end.marks:
            end.marks[letter] = 0
            self._write(letter, end)

    def _scaled(self, letter: str, end: Endpoint) -> None:
        """Writes the letter the first time, the tenth, the hundredth ..."""
        count = end.counts[letter] = end.counts.get(letter, 0) + 1
        if count == 10 ** (len(str(count)) - 1):
            self._write(letter, end)
