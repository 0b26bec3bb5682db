"""A dask cluster over TLS: whoever has no certificate of its authority stays outside."""

import datetime
import ipaddress
from pathlib import Path

import dask.config
import pytest

from neurofb.scan import Scan, run_scan
from neurofb.scan.dask_engine import _local_cluster, dask_executor

distributed = pytest.importorskip("distributed")
x509 = pytest.importorskip("cryptography.x509")

from cryptography.hazmat.primitives import hashes, serialization  # noqa: E402
from cryptography.hazmat.primitives.asymmetric import ec  # noqa: E402

HERE = Path(__file__).parent

#: with both cores taken by other tests, dask's client gives up on its own start after 10 s
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    return make_certificates(tmp_path_factory.mktemp("ours"))


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    return make_certificates(tmp_path_factory.mktemp("others"))


@pytest.fixture(scope="module")
def cluster(ours):
    """A scheduler that speaks TLS, with one worker."""
    with dask.config.set(configuration(ours)):
        cluster = _local_cluster(1, "127.0.0.1", None)
    with cluster:
        yield cluster


def test_a_scan_runs_over_tls_with_the_certificates_of_dasks_configuration(
    cluster, ours, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    scan = Scan(name="waves", recipe=f"{HERE / 'recipes.py'}::wave", axes={"seed": [0, 1]})
    assert cluster.scheduler_address.startswith("tls://127.0.0.1:")
    assert all(address.startswith("tls://") for address in cluster.scheduler_info["workers"])
    with dask.config.set(configuration(ours)):
        with dask_executor(cluster.scheduler_address, show=False) as executor:
            found = run_scan(scan, "x.zarr", executor=executor, progress=False)
    assert found["status"].values.tolist() == [1, 1]


def test_the_environment_names_the_certificates(cluster, ours):
    environment = {
        "DASK_DISTRIBUTED__COMM__TLS__CA_FILE": str(ours / "ca.pem"),
        "DASK_DISTRIBUTED__COMM__TLS__CLIENT__CERT": str(ours / "dask.pem"),
        "DASK_DISTRIBUTED__COMM__TLS__CLIENT__KEY": str(ours / "dask-key.pem"),
    }
    try:
        dask.config.refresh(env=environment)
        with dask_executor(cluster.scheduler_address, show=False) as executor:
            assert executor.submit(abs, -1).result() == 1
    finally:
        dask.config.refresh()


def test_a_client_without_certificate_is_refused(cluster):
    with pytest.raises(ValueError, match="wants certificates"):
        open_and_close(cluster.scheduler_address)


def test_a_certificate_of_another_authority_is_refused(cluster, others):
    with dask.config.set(configuration(others)):
        with pytest.raises(ValueError, match="no dask scheduler can be talked to"):
            open_and_close(cluster.scheduler_address)


def test_a_client_without_tls_is_refused_and_told_why(cluster):
    address = cluster.scheduler_address.replace("tls://", "tcp://")
    with pytest.raises(ValueError, match="A scheduler with TLS is tls://"):
        open_and_close(address)


def test_the_network_without_tls_is_warned_of():
    with pytest.raises(UserWarning, match="can execute code as you; configure TLS"):
        _local_cluster(1, "0.0.0.0", None)


def open_and_close(address: str) -> None:
    with dask_executor(address, timeout=1.5, show=False):
        pass


def configuration(folder: Path) -> dict[str, str]:
    """Return the dask configuration that docs/scans.md has as yaml."""
    whose = {
        f"distributed.comm.tls.{who}.{what}": str(folder / name)
        for who in ("scheduler", "worker", "client")
        for what, name in (("cert", "dask.pem"), ("key", "dask-key.pem"))
    }
    return {"distributed.comm.tls.ca-file": str(folder / "ca.pem"), **whose}


def make_certificates(folder: Path) -> Path:
    """Write ca.pem, and dask.pem with dask-key.pem, which the authority has signed."""
    authority, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    files = {
        "ca.pem": certificate("authority", authority, authority, is_authority=True),
        "dask.pem": certificate("dask", key, authority, is_authority=False),
    }
    for name, made in files.items():
        (folder / name).write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    (folder / "dask-key.pem").write_bytes(private)
    return folder


def certificate(name: str, key, authority, *, is_authority: bool):
    subject, issuer = (
        x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, who)])
        for who in (name, "authority")
    )
    now = datetime.datetime.now(datetime.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(authority, hashes.SHA256())
    )
