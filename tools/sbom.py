"""`python -m tools.sbom [FILE]`: what the container holds, as CycloneDX 1.6: the project, every Python
package at its version with the hashes that it may have, and the vendored scripts.

cyclonedx-py reads the pins; what it cannot know (which pins hold in the container, what is vendored) is
added here, and what says nothing of the container (addresses, the machine, the moment) is left out, so that
the same pins give the same bytes. The base image and its packages are not in it.
"""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tools.pins import ROOT, Pin, container_pins

OUTPUT = ROOT / "dist" / "lockboard.cdx.json"
_VENDOR = ROOT / "static" / "vendor" / "VENDOR.txt"


def document(pins: Sequence[Pin]) -> dict[str, Any]:
    """The whole document. Raises RuntimeError where the tool fails."""
    made = _from_tool(pins)
    root = made["metadata"]["component"]
    root["purl"] = root["bom-ref"] = f"pkg:pypi/{root['name']}@{root['version']}"
    for tool in made["metadata"]["tools"]["components"]:
        tool.pop("externalReferences", None)
    hashes = {pin.name: pin.hashes for pin in pins}
    made["components"] = [_component(each, hashes) for each in made["components"]] + _vendored()
    refs = sorted(each["bom-ref"] for each in made["components"])
    made["dependencies"] = [{"ref": root["bom-ref"], "dependsOn": refs}, *({"ref": ref} for ref in refs)]
    return made


def _from_tool(pins: Sequence[Pin]) -> dict[str, Any]:
    run = subprocess.run(
        [
            *(sys.executable, "-W", "ignore", "-m", "cyclonedx_py", "requirements"),
            *("--pyproject", str(ROOT / "pyproject.toml"), "--spec-version", "1.6"),
            *("--output-reproducible", "--short-PURLs", "--no-validate", "-"),
        ],
        input="\n".join(pin.line for pin in pins) + "\n",
        text=True,
        capture_output=True,
        check=False,
    )
    if run.returncode:
        raise RuntimeError(f"cyclonedx-py failed: {run.stderr.strip()}")
    made: dict[str, Any] = json.loads(run.stdout)
    return made


def _component(made: dict[str, Any], hashes: dict[str, tuple[str, ...]]) -> dict[str, Any]:
    return {
        "bom-ref": made["purl"],
        "type": "library",
        "name": made["name"],
        "version": made["version"],
        "purl": made["purl"],
        "hashes": [{"alg": "SHA-256", "content": found} for found in hashes[made["name"]]],
    }


def _vendored() -> list[dict[str, Any]]:
    found = []
    for line in _VENDOR.read_text("utf-8").splitlines():
        if not line or line.startswith("#"):
            continue
        name, package, version, source, licence, _, sha384 = line.split()
        digest = base64.b64decode(sha384).hex()
        found.append(
            {
                "bom-ref": f"pkg:npm/{package}@{version}#{source}",
                "type": "library",
                "name": name,
                "version": version,
                "purl": f"pkg:npm/{package}@{version}#{source}",
                "licenses": [{"license": {"id": licence}}],
                "hashes": [{"alg": "SHA-384", "content": digest}],
            }
        )
    return found


def complaint(text: str) -> str:
    """What the schema of CycloneDX 1.6 has against it; empty where nothing."""
    from cyclonedx.schema import SchemaVersion  # noqa: PLC0415 -- needed for this alone
    from cyclonedx.validation.json import JsonStrictValidator  # noqa: PLC0415

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    return str(found or "")


def main(arguments: Sequence[str]) -> int:
    """Write the document; 1 where it is not valid."""
    output = Path(arguments[0]) if arguments else OUTPUT
    text = json.dumps(document(container_pins()), indent=2, sort_keys=True) + "\n"
    if wrong := complaint(text):
        print(f"not CycloneDX 1.6: {wrong}", file=sys.stderr)
        return 1
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(text, encoding="utf-8")
    print(output)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
