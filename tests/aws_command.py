"""A stand-in for the AWS command line, for the runbook's commands: the same words, botocore behind them.

Options are the members of an operation's input as botocore's service model spells them, so a name that AWS
does not have fails here as it does there. It writes JSON, and knows `--region`, `--body`, `--cli-input-json`
and the file that get-object writes; nothing else of the real one.
"""

from __future__ import annotations

import json
import socketserver
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from botocore import xform_name
from botocore.exceptions import ClientError, ParamValidationError

_SERVICES = {"s3api": "s3", "dynamodb": "dynamodb"}
_FAILED = 254
_PROGRAM = """#!{python} -IS
import json, os, socket, sys
line = socket.socket(socket.AF_UNIX)
line.connect({address!r})
line.sendall(json.dumps([os.getcwd(), *sys.argv[1:]]).encode() + b"\\n")
out, err, status = json.loads(line.makefile().read())
sys.stdout.write(out)
sys.stderr.write(err)
sys.exit(status)
"""

Clients = Callable[[str], Any]
"""Service -> a boto3 client, which sends each request once."""


@contextmanager
def aws_command(folder: Path, clients: Clients) -> Iterator[None]:
    """An executable `aws` in the folder, as long as the block lasts: a program so small that it starts at
    once, which asks this process to do the work.
    """
    address = str(folder / "aws.socket")

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(json.dumps(_run(clients, json.loads(self.rfile.readline()))).encode())

    with socketserver.ThreadingUnixStreamServer(address, Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        program = folder / "aws"
        program.write_text(_PROGRAM.format(python=sys.executable, address=address), "utf-8")
        program.chmod(0o755)
        yield
        server.shutdown()


def _run(clients: Clients, words: Sequence[str]) -> tuple[str, str, int]:
    """The folder it was typed in and its words -> (what is written, what is complained about, the status)."""
    folder, service, name, *rest = words
    client = clients(_SERVICES[service])
    regions = [word for word in rest if word.startswith("--region=")]
    if any(word != f"--region={client.meta.region_name}" for word in regions):
        return "", f"nothing is in {regions}\n", _FAILED
    rest = [word for word in rest if word not in regions]
    method = name.replace("-", "_")
    model = client.meta.service_model.operation_model(client.meta.method_to_api_mapping[method])
    try:
        parameters, file = _parsed(model.input_shape.members, rest, Path(folder))
        answer = getattr(client, method)(**parameters)
    except (ClientError, ParamValidationError, KeyError, ValueError) as error:
        return "", f"{error}\n", _FAILED
    if file:
        Path(folder, file).write_bytes(answer.pop("Body").read())
    answer.pop("ResponseMetadata")
    return (json.dumps(answer, default=str, indent=4) + "\n" if answer else ""), "", 0


def _parsed(members: dict[str, Any], words: Sequence[str], folder: Path) -> tuple[dict[str, Any], str]:
    """The operation's parameters, and the file to write a body to."""
    names = {xform_name(member, "-"): member for member in members}
    found: dict[str, Any] = {}
    file, rest = "", list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--"):
            file = word
            continue
        option, joined, value = word[2:].partition("=")
        if option == "cli-input-json":
            found = json.loads((folder / rest.pop(0).removeprefix("file://")).read_text("utf-8")) | found
            continue
        shape = members[names[option]]
        if shape.type_name == "boolean":
            found[names[option]] = True
            continue
        found[names[option]] = _value(shape.type_name, value if joined else rest.pop(0), folder)
    return found, file


def _value(kind: str, text: str, folder: Path) -> object:
    if kind == "blob":
        return (folder / text).read_bytes()
    if kind in ("structure", "list", "map"):
        found: object = json.loads(text)
        return found
    return int(text) if kind == "integer" else text
