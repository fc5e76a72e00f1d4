"""Certificates and keys, what a deployment refuses, and one real SuperLink with two SuperNodes."""

import socket
import ssl
import stat
import threading
from pathlib import Path

import numpy as np
import psutil
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_private_key, load_ssh_public_key

from fliot_lab.federation.flower import certificates, deploy, grid, study


def greeted(server: Path, authority: Path, name: str) -> str:
    """What a client that trusts `authority` hears from a TLS server with `server`'s certificate, whom it calls `name`."""
    serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    serving.load_cert_chain(server / certificates.CERTIFICATE, server / certificates.KEY)
    ours, theirs = socket.socketpair()
    ours.settimeout(5)
    theirs.settimeout(5)

    def serve() -> None:
        try:
            with serving.wrap_socket(theirs, server_side=True) as wrapped:
                wrapped.sendall(b"hello")
        except (ssl.SSLError, OSError):  # the client went away, which is for the client to tell
            theirs.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        trusting = ssl.create_default_context(cafile=str(authority / certificates.AUTHORITY))
        with trusting.wrap_socket(ours, server_hostname=name) as wrapped:
            return wrapped.recv(5).decode()
    finally:
        ours.close()
        thread.join()


def test_a_certificate_is_the_servers_and_no_other_authoritys(tmp_path: Path) -> None:
    for name in ("one", "two"):
        certificates.make(tmp_path / name, ("127.0.0.1", "localhost"))
    for host in ("127.0.0.1", "localhost"):
        assert greeted(tmp_path / "one", tmp_path / "one", host) == "hello"
    with pytest.raises(ssl.SSLCertVerificationError, match=r"self.signed certificate|unable to get local issuer|signature"):
        greeted(tmp_path / "one", tmp_path / "two", "localhost")
    with pytest.raises(ssl.SSLCertVerificationError, match=r"example\.org"):
        greeted(tmp_path / "one", tmp_path / "one", "example.org")


def test_private_files_are_their_owners(tmp_path: Path) -> None:
    certificates.make(tmp_path)
    private, public = certificates.node_key(tmp_path, "node")
    for path in (private, tmp_path / certificates.KEY):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    key, known = load_ssh_private_key(private.read_bytes(), None), load_ssh_public_key(public.read_bytes())
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert isinstance(known, ec.EllipticCurvePublicKey)
    assert key.curve.name == "secp384r1"
    assert key.public_key().public_numbers() == known.public_numbers()
    with pytest.raises(FileExistsError):
        certificates.node_key(tmp_path, "node")


def test_what_a_deployment_refuses(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nodes=0: a deployment has at least one SuperNode"):
        deploy.Deployment(0)
    (tmp_path / "kept").write_text("mine")
    with pytest.raises(ValueError, match="is not empty; a deployment writes its own keys"):
        deploy.Deployment(folder=tmp_path)
    with socket.socket() as taken:
        taken.bind((deploy.HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(deploy.DeploymentError, match=rf"(?s)superlink ended with exit code.*{port}"):
            deploy.Deployment(1, folder=tmp_path / "new", port=port).__enter__()
    assert not [process for process in psutil.Process().children(recursive=True) if "flower" in " ".join(process.cmdline())]


def test_two_supernodes_get_the_numbers_of_this_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TLS, node keys, one round in which nobody judges, since each message costs seconds; more is in the slow tests."""
    for name in deploy.COLOURS:  # as in a notebook's kernel
        monkeypatch.setenv(name, "1")
    before = set(psutil.Process().children(recursive=True))  # such as the resource tracker of multiprocessing
    settings = {"data": "sample", "rows": 200, "rounds": 1, "epochs": 1, "nodes": 2, "fraction-train": 1.0}
    settings |= {"fraction-evaluate": 0.0, "timeout": 60.0}
    with deploy.Deployment(2, secure=True, folder=tmp_path / "there") as there:
        outcome = there.run(settings, limit_s=90)
        running = set(psutil.Process().children(recursive=True)) - before
        assert len(running) >= 3
        with pytest.raises(deploy.DeploymentError, match=r"(?s)flwr log 12 failed.*Run ID not found"):
            there._flwr("log", "12", deploy.CONNECTION, "--show")
    assert not [process for process in running if process.is_running()]
    near = grid.run(study.server, study.client, 2, settings)
    assert set(outcome.parameters) == set(near.state["arrays"])
    for name, array in near.state["arrays"].items():
        assert np.allclose(array.numpy(), outcome.parameters[name], atol=1e-5)
    assert (tmp_path / "there" / "supernode-1.log").read_text("utf-8").count("Sent successfully") == 2
