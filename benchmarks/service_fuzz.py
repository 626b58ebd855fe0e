"""Does the service keep to its own description? schemathesis asks it thousands of valid and invalid things.

python -m benchmarks.service_fuzz [--cases 5000] [--seed 0]

The service runs on a small table of known numbers, with a token that may write and without running jobs. Any status of
500 or above, and any answer that its OpenAPI description does not allow, is an error (exit status 1).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.api_service import fill, new_token, serve

CHECKS = (
    "not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance",
    "response_headers_conformance",
)  # fmt: skip
PHASES = "examples,coverage,fuzzing"
ENDLESS = "/v1/jobs/{uid}/events"
"""A stream, which ends with its job: none runs here."""
OPERATIONS = 25
"""About how many there are: cases are told for each."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=5000, help="at least about so many in all")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        db = Path(folder) / "service.db"
        fill(db)
        with serve(db, "--no-jobs", "--rate", "0") as served:
            sys.exit(fuzz(served.url, new_token(db), options.cases, options.seed))


def fuzz(url: str, token: str, cases: int, seed: int, phases: str = PHASES) -> int:
    """schemathesis' exit status."""
    command = [
        str(Path(sys.executable).with_name("schemathesis")), "run", f"{url.rstrip('/')}/v1/openapi.json",
        "--checks", ",".join(CHECKS), "--phases", phases, "--continue-on-failure",
        "--max-examples", str(-(-cases // OPERATIONS)), "--seed", str(seed), "--exclude-path", ENDLESS,
        "--header", f"Authorization: Bearer {token}", "--request-timeout", "60",
    ]  # fmt: skip
    return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    main()
