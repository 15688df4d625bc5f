"""The emulator's process: moto's server, filled with the demo's estate.

`python -m lockboard.demo.launcher --now … [--seed …] [--team]` writes one line of JSON with its address to
standard output once it is filled, and ends when its standard input does.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from argparse import ArgumentParser
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import IO, Any

from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from moto.s3.models import s3_backends
from werkzeug.serving import make_server

from lockboard.demo.bodies import dice
from lockboard.demo.emulator import HOST, client
from lockboard.demo.estate import Cluster, Estate, Item, Version, build
from lockboard.demo.team import Team, Wire, targets

_BATCH = 25
"""The most items that DynamoDB takes in one BatchWriteItem."""


def main(arguments: list[str], said: IO[str], heard: IO[bytes]) -> None:
    """Serve until `heard` ends. `said` gets the address once the emulator is filled."""
    parser = ArgumentParser(prog="python -m lockboard.demo.launcher")
    parser.add_argument("--now", type=datetime.fromisoformat, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--team", action="store_true")
    options = parser.parse_args(arguments)

    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
    app = DomainDispatcherApplication(create_backend_app)
    server = make_server(HOST, 0, app, threaded=True, request_handler=MotoRequestHandler)
    url = f"http://{HOST}:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    fill(build(options.now, options.seed), url)
    if options.team:
        wire = Wire(lambda service, region: client(service, region, url))
        team = Team(targets(), wire, _utc_now, dice(f"{options.seed}/team"))
        threading.Thread(target=team.work, args=(threading.Event(),), daemon=True).start()
    said.write(json.dumps({"url": url}) + "\n")
    said.flush()
    heard.read()


def fill(estate: Estate, url: str) -> None:
    """Create the estate's buckets and tables through the emulator's own API, then place the objects'
    histories.

    The histories go straight into this process's moto, because no API lets one choose a `LastModified` or a
    version ID.
    """
    for cluster in estate.clusters:
        _create_bucket(cluster, client("s3", cluster.region, url))
        for key, versions in estate.objects[cluster.bucket].items():
            _place(cluster.bucket, key, versions)
        if cluster.table:
            _create_table(cluster.table, estate.items[cluster.table], client("dynamodb", cluster.region, url))


def _create_bucket(cluster: Cluster, s3: Any) -> None:
    s3.create_bucket(Bucket=cluster.bucket, CreateBucketConfiguration={"LocationConstraint": cluster.region})
    if cluster.versioned:
        s3.put_bucket_versioning(Bucket=cluster.bucket, VersioningConfiguration={"Status": "Enabled"})


def _create_table(table: str, items: tuple[Item, ...], dynamodb: Any) -> None:
    dynamodb.create_table(
        TableName=table,
        KeySchema=[{"AttributeName": "LockID", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "LockID", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    for start in range(0, len(items), _BATCH):
        puts = [{"PutRequest": {"Item": item}} for item in items[start : start + _BATCH]]
        dynamodb.batch_write_item(RequestItems={table: puts})


def _place(bucket: str, key: str, versions: Iterable[Version]) -> None:
    backend = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
    for version in versions:
        if version.body is None:
            backend.delete_object(bucket, key)
        else:
            backend.put_object(bucket, key, version.body, storage=version.storage_class, etag=version.etag)
        stored: Any = backend.get_bucket(bucket).keys.getlist(key)[-1]
        stored.last_modified = version.at.astimezone(UTC).replace(tzinfo=None)
        stored._version_id = version.version_id  # noqa: SLF001 -- moto has no other way to choose one


def _utc_now() -> datetime:
    return datetime.now(UTC)


if __name__ == "__main__":
    main(sys.argv[1:], sys.stdout, sys.stdin.buffer)
    os._exit(0)  # requests still being answered must not keep us
