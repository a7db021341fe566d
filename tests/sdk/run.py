#!/usr/bin/env python3
"""The official SDKs against the built gateway and its sandbox provider, in Python and JavaScript.

    TOLLGATE_BIN=target/release/tollgate TOLLGATE_NPM=target/ci-npm target/ci-venv/bin/python tests/sdk/run.py

Needs the Python packages of .ci/requirements.txt, and in TOLLGATE_NPM the JavaScript packages of .ci/package.json.
The last line counts; the exit code is 1 if anything failed.
"""

import os
import re
import subprocess
import sys

import python_anthropic
import python_genai
import python_openai
from gateway import ROOT, Gateway

# A name of its own for a model, so that lists of models have something to show.
ROUTE = '[[route]]\nname = "sdk"\nmodel = "our-echo"\ntargets = [{ provider = "sandbox", model = "echo" }]\n'
JAVASCRIPT_SECONDS = 300


def javascript(gateway):
    npm = os.environ.get("TOLLGATE_NPM", str(ROOT / "target/ci-npm"))
    environment = {**os.environ, "TOLLGATE_URL": gateway.url, "TOLLGATE_KEY": gateway.key, "TOLLGATE_NPM": os.path.abspath(npm)}
    script = ROOT / "tests/sdk/javascript.mjs"
    run = subprocess.run(["node", script], env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, timeout=JAVASCRIPT_SECONDS)
    print(run.stdout, end="", flush=True)
    counts = re.search(r"javascript: (\d+) passed, (\d+) failed", run.stdout)
    # No count: it broke off.
    return (int(counts[1]), int(counts[2])) if counts else (0, 1)


def main():
    results = []
    with Gateway(rules={"30-sdk.toml": ROUTE}) as gateway:
        for name, module in (("openai", python_openai), ("anthropic", python_anthropic), ("google-genai", python_genai)):
            passed, failed = module.checks(gateway).run(f"python {name}")
            print(f"python {name}: {passed} passed, {failed} failed", flush=True)
            results.append((passed, failed))
        results.append(javascript(gateway))
    passed, failed = (sum(column) for column in zip(*results))
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
