"""Device fingerprints: how a device behaves on the wire, in its flows, on its own computer and in its system calls."""

from fliot_lab.features.devices import calls, flows, hosts, packets
from fliot_lab.features.devices.fingerprint import Channel, Fingerprint, fuse, matrix

__all__ = ["CHANNELS", "Channel", "Fingerprint", "calls", "flows", "fuse", "hosts", "matrix", "packets"]

#: Name -> channel. A new kind of source is one more module with CHANNEL, `read` and `fingerprint`, and its entry here.
CHANNELS: dict[str, Channel] = {module.CHANNEL: module for module in (packets, flows, hosts, calls)}
