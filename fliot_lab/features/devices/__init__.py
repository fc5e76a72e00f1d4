"""Device fingerprints: how a device behaves on the wire, in its flows, on its own computer and in its system calls."""

from fliot_lab.features.devices.fingerprint import Channel, Fingerprint, fuse, matrix

__all__ = ["Channel", "Fingerprint", "fuse", "matrix"]
