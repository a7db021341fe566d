#!/usr/bin/env python3
"""Streams with an event each second, all opened at once: were any refused or lost, and what memory does the gateway need for each?

    python3 loadtest/idle.py target/release/tollgate target/release/examples/load [--streams 8000] [--seconds 60] [--http2 100]

With --http2 so many share one connection of the client. Each still has a connection to the provider, so that 10,000 of them fit where a process
may have 20,000 descriptors.
"""

import argparse
import json
import resource
import threading
import time

from stage import Stage


def main():
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("gateway")
    parse.add_argument("load")
    parse.add_argument("--streams", type=int, default=8000)
    parse.add_argument("--seconds", type=float, default=60.0)
    parse.add_argument("--http2", type=int, default=0, help="streams on one HTTP/2 connection; 0: HTTP/1.1")
    args = parse.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    options = {"access": False, "http2": bool(args.http2)}
    if args.http2:
        # Descriptors are for the connections to the provider. A tenth of the places is kept for critical requests.
        options |= {"limits": "connections = 1000", "more": f"[overload]\nconcurrent = {args.streams * 10 // 9 + 10}"}
    with Stage(args.gateway, args.load, **options) as stage:
        before, most, over = stage.resident(), 0.0, threading.Event()

        def look():
            nonlocal most
            while not over.is_set():
                most = max(most, stage.resident())
                time.sleep(0.5)

        looking = threading.Thread(target=look)
        looking.start()
        try:
            asked = {"streams": args.streams, "http2": args.http2, "seconds": args.seconds}
            result = stage.drive("streams", model="sandbox/small,tokens=1000000,pace=1s", **asked)
        finally:
            over.set()
            looking.join()
        each = (most - before) * 1024 / args.streams
        print(f"{args.streams} streams: {result['errors']} failed, {result['ended']} ended, {result['events_per_second']:.0f} events/s; "
              f"memory {before:.0f} MiB before, at most {most:.0f}: {each:.1f} KiB each")
        print(json.dumps(result))


if __name__ == "__main__":
    main()
