from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from itertools import chain
from typing import Any

import pytest
from botocore.exceptions import ClientError

from lockboard.demo.emulator import Emulator, EmulatorError, client
from lockboard.demo.estate import CLUSTERS, ROWS, Cluster, Version, build, cluster_of
from tests.demo.conftest import NOW

ESTATE = build(NOW, seed=7)
by_name = pytest.mark.parametrize("cluster", CLUSTERS, ids=lambda cluster: cluster.name)


def answers(url: str) -> bool:
    host, port = url.removeprefix("http://").split(":")
    try:
        socket.create_connection((host, int(port)), timeout=1).close()
    except OSError:
        return False
    return True


def falls_silent(url: str) -> bool:
    limit = time.monotonic() + 10
    while answers(url):
        if time.monotonic() > limit:
            return False
        time.sleep(0.02)
    return True


def listed(cluster: Cluster, url: str) -> dict[str, list[tuple[object, ...]]]:
    """Key to (version id, time, deleted), newest first, of every version that S3 lists."""
    s3 = client("s3", cluster.region, url)
    pages = s3.get_paginator("list_object_versions").paginate(Bucket=cluster.bucket)
    found: dict[str, list[tuple[object, ...]]] = {}
    for page in pages:
        for version in chain(page.get("Versions", []), page.get("DeleteMarkers", [])):
            line = (version["VersionId"], version["LastModified"], "ETag" not in version)
            found.setdefault(version["Key"], []).append(line)
    return {key: sorted(lines, key=lambda line: str(line[1]), reverse=True) for key, lines in found.items()}


def described(versions: tuple[Version, ...]) -> list[tuple[object, ...]]:
    return [(version.version_id, version.at, version.body is None) for version in reversed(versions)]


@by_name
def test_s3_lists_every_version_with_its_own_id_and_time(seeded: Emulator, cluster: Cluster) -> None:
    expected = {key: described(versions) for key, versions in ESTATE.objects[cluster.bucket].items()}
    assert listed(cluster, seeded.url) == expected


@by_name
def test_s3_gives_back_the_bytes_of_every_current_object(seeded: Emulator, cluster: Cluster) -> None:
    s3: Any = client("s3", cluster.region, seeded.url)
    for key, versions in ESTATE.objects[cluster.bucket].items():
        last = versions[-1]
        if last.body is not None and last.storage_class == "STANDARD":
            assert s3.get_object(Bucket=cluster.bucket, Key=key)["Body"].read() == last.body


@pytest.mark.parametrize("cluster", [c for c in CLUSTERS if c.table], ids=lambda cluster: cluster.name)
def test_the_table_holds_the_items_of_the_estate(seeded: Emulator, cluster: Cluster) -> None:
    found = client("dynamodb", cluster.region, seeded.url).scan(TableName=cluster.table)["Items"]
    expected = ESTATE.items[cluster.table or ""]
    assert sorted(found, key=str) == sorted((dict(item) for item in expected), key=str)


def test_the_archived_state_is_listed_and_refused_with_403(seeded: Emulator) -> None:
    (row,) = [row for row in ROWS if row.content == "state_unreadable"]
    cluster = cluster_of(row.backend)
    s3 = client("s3", cluster.region, seeded.url)
    with pytest.raises(ClientError) as refusal:
        s3.get_object(Bucket=cluster.bucket, Key=row.key)
    assert refusal.value.response["Error"]["Code"] == "InvalidObjectState"
    assert refusal.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403


def test_the_emulator_is_gone_after_its_block() -> None:
    with Emulator.start(NOW) as emulator:
        assert answers(emulator.url)
    assert not answers(emulator.url)
    emulator.stop()


def test_the_emulator_ends_when_its_parent_is_killed() -> None:
    program = (
        "import sys, time; from datetime import UTC, datetime; from lockboard.demo.emulator import Emulator;"
        "emulator = Emulator.start(datetime.now(UTC)); print(emulator.url, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        try:
            url = parent.stdout.readline().decode().strip()
            answered = answers(url)
        finally:
            os.kill(parent.pid, signal.SIGKILL)
    assert answered
    assert falls_silent(url)


def test_an_emulator_that_is_not_ready_in_time_is_an_error() -> None:
    with pytest.raises(EmulatorError, match="not ready within 0 s"):
        Emulator.start(NOW, timeout=0)
