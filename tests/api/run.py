#!/usr/bin/env python3
"""Schemathesis over the admin API's OpenAPI document, against the built gateway on the loopback.

    TOLLGATE_BIN=target/release/tollgate target/ci-venv/bin/python tests/api/run.py

Needs the Python packages of .ci/requirements.txt. The same seed makes the same calls; what it found is printed with a curl line.
Exit code 1 if anything failed. Two things are left out, and why:

- `test_address` connects to where its callers say: nothing here may leave this machine. tests/admin/addresses.rs tests it.
- The check `use_after_free`: a deleted key or group is shown for good, since the ledger's rows bear its name.
"""

import os
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "sdk"))

from gateway import ROOT, Gateway  # noqa: E402

SEED = 20260131
# Within these it is done with examples, edges and fuzzing, and plays with sequences of calls until the time is over.
SECONDS = int(os.environ.get("TOLLGATE_API_SECONDS", "60"))
# It hangs if it takes longer than this.
MOST_SECONDS = SECONDS + 240


def main():
    tool = pathlib.Path(sys.executable).with_name("schemathesis")
    # Nothing but the stand-in provider: no check of a provider leaves this machine.
    with Gateway(shipped=False, rules={"00-sandbox.toml": (ROOT / "rules/00-sandbox.toml").read_text()}) as gateway, tempfile.TemporaryDirectory() as folder:
        url = f"http://127.0.0.1:{gateway.admin_port}"
        line = [tool, "--config-file", HERE / "schemathesis.toml", "run", f"{url}/api/v1/openapi.json", "--url", url]
        line += ["--header", f"Authorization: Bearer {gateway.admin_token}", "--seed", str(SEED), "--max-time", str(SECONDS)]
        line += ["--exclude-operation-id", "test_address", "--exclude-checks", "use_after_free"]
        environment = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
        run = subprocess.run(line + sys.argv[1:], cwd=folder, env={**environment, "NO_PROXY": "*"}, stdin=subprocess.DEVNULL, timeout=MOST_SECONDS)
        if gateway.process.poll() is not None:
            print("the gateway died", flush=True)
            return 1
        return 1 if run.returncode else 0


if __name__ == "__main__":
    sys.exit(main())
