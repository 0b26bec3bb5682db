"""dask as the engine of a scan: a cluster that runs already, or one on this machine.

Everyone who can connect to a dask scheduler or worker can execute code there, so a cluster that is
opened here listens to this machine alone; over a network use TLS.
"""

import ipaddress
import sys
import warnings
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neurofb.workers import num_cores

if TYPE_CHECKING:
    from distributed import Client, Security


@contextmanager
def dask_executor(
    address: str | None = None,
    *,
    workers: int | None = None,
    host: str = "127.0.0.1",
    security: "Security | None" = None,
    timeout: float = 30.0,
    show: bool = True,
) -> Iterator[Executor]:
    """Connect to a dask cluster, or open one here, and give an executor for `run_scan`.

    A cluster that was opened here is closed at the end; one that ran before goes on.

    Parameters
    ----------
    address
        ``tcp://host:port``, ``tls://host:port``, or the path of a scheduler file (``….json``) of a
        cluster whose workers see the same files; None or ``local`` opens one on this machine: a
        process with one thread for each worker, replaced when it dies.
    workers
        Workers of a cluster on this machine, the number of cores by default.
    host
        Address on which scheduler, workers and dashboard of a cluster on this machine listen.
    security
        Certificates for TLS; by default those of dask's configuration, if there are any.
    timeout
        How long to try to connect, in seconds.
    show
        Say on stderr where the scheduler is, how many workers it has, and where the dashboard is,
        if there is one (it needs bokeh).

    Raises
    ------
    ValueError
        If the address has another form, no scheduler answers there, or TLS lacks its certificates.
    ImportError
        If dask is not installed.

    Examples
    --------
    >>> with dask_executor("tls://login1:8786") as executor:  # doctest: +SKIP
    ...     run_scan(scan, "scans/ranks.zarr", executor=executor)
    """
    _installed()
    with ExitStack() as stack:
        if address is None or address == "local":
            cluster = stack.enter_context(_local_cluster(workers, host, security))
            address, security = str(cluster.scheduler_address), cluster.security
        elif workers is not None:
            raise ValueError(f"workers={workers}: the cluster at {address!r} has its own workers")
        client = stack.enter_context(_connect(address, security, timeout))
        if show:
            print(describe(client), file=sys.stderr, flush=True)
        yield client.get_executor(pure=False)


def describe(client: "Client") -> str:
    """Return how many workers a cluster has, and where its scheduler and its dashboard are.

    Examples
    --------
    >>> describe(client)  # doctest: +SKIP
    'dask: 2 workers at tcp://127.0.0.1:8786, dashboard http://127.0.0.1:8787/status'
    """
    about = client.scheduler_info(n_workers=-1)
    number = len(about["workers"])
    text = f"dask: {number} worker{'' if number == 1 else 's'} at {about['address']}"
    if not number:
        text += " (cells wait until there are some)"
    if "dashboard" in about["services"] and _has_pages():
        text += f", dashboard {client.dashboard_link}"
    return text


def _installed() -> None:
    try:
        import distributed  # noqa: F401
    except ImportError as error:
        raise ImportError("scans with dask need: pip install 'neurofb[dask]'") from error


def _has_pages() -> bool:
    """Tell whether dask can draw its dashboard."""
    try:
        import bokeh  # noqa: F401 # pyright: ignore[reportMissingImports]
    except ImportError:
        return False
    return True


def _local_cluster(workers: int | None, host: str, security: Any) -> Any:
    from distributed import LocalCluster, Security

    workers = num_cores() if workers is None else workers
    if workers < 1:
        raise ValueError(f"workers={workers} must be at least 1")
    security = Security() if security is None else security
    tls = bool(security.get_connection_args("client").get("ssl_context"))
    if not tls and not _is_loopback(host):
        warnings.warn(
            f"host={host!r}: whoever reaches its ports can execute code as you; configure TLS",
            stacklevel=4,
        )
    return LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        processes=True,
        host=host,
        protocol="tls" if tls else "tcp",
        security=security,
        dashboard_address=f"{host}:0",
        worker_dashboard_address=f"{host}:0",
        memory_limit=0,  # the limit is the cell's own
    )


def _connect(address: str, security: Any, timeout: float) -> "Client":
    from distributed import Client

    where: dict[str, Any] = {"address": address}
    if address.endswith(".json"):
        if not Path(address).is_file():
            raise ValueError(f"address={address!r}: there is no such scheduler file")
        where = {"scheduler_file": address}
    elif "://" not in address:
        raise ValueError(
            f"address={address!r} must be tcp://host:port, tls://host:port, a scheduler file "
            "(….json) or 'local'"
        )
    try:
        return Client(**where, security=security, timeout=timeout, set_as_default=False)
    except (OSError, TypeError, RuntimeError) as error:
        raise ValueError(
            f"address={address!r}: no dask scheduler can be talked to there within {timeout:g} s "
            f"({error}). A scheduler with TLS is tls://…, and wants certificates "
            "(distributed.comm.tls in dask's configuration)"
        ) from error


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
