#!/usr/bin/env python3
"""What is served at several times the capacity? Requests are dear for the gateway and cheap for the driver and the sandbox, which have another core:
so it is the gateway that is overloaded. First the peak: a closed loop of few connections, and an open loop at rates around that. Then an open
loop at three times of it: what was served, what was refused, and the gateway's memory.

    python3 loadtest/capacity.py target/release/tollgate target/release/examples/load [--connections 300] [--seconds 60]
"""

import argparse
import json
import time

from stage import Stage


def main():
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("gateway")
    parse.add_argument("load")
    parse.add_argument("--times", type=float, default=3.0)
    parse.add_argument("--seconds", type=float, default=60.0)
    parse.add_argument("--connections", type=int, default=300)
    parse.add_argument("--closed", type=int, default=32, help="connections of the closed loop")
    parse.add_argument("--size", type=int, default=20_000, help="bytes of a request")
    parse.add_argument("--words", type=int, default=16, help="of an answer")
    parse.add_argument("--native", action="store_true", help="the sandbox is asked in the client's dialect, not in Anthropic's")
    parse.add_argument("--overload", default="", help="lines of [overload]")
    parse.add_argument("--rounds", type=int, default=1)
    args = parse.parse_args()
    dialect = "openai_chat" if args.native else "anthropic"
    request = {"model": f"sandbox/small,tokens={args.words}", "size": args.size}

    with Stage(args.gateway, args.load, dialect=dialect, more=f"[overload]\n{args.overload}") as stage:

        def flood(rate, seconds):
            before, shed = stage.resident(), stage.metric("tollgate_shed_total")
            result = stage.drive("flood", rate=rate, connections=args.connections, seconds=seconds, **request)
            result |= {"grown": stage.resident() - before, "shed": stage.metric("tollgate_shed_total") - shed}
            # Those who were refused last are heard again.
            time.sleep(4)
            return result

        stage.drive("rps", connections=16, seconds=3, **request)
        for _ in range(args.rounds):
            result = stage.drive("rps", connections=args.closed, seconds=10, **request)
            closed = result["rps"]
            each = result["cpu_share"] / closed * 1e6
            print(f"closed loop of {args.closed}: {closed:.0f} requests/s, {each:.0f} us of CPU each")
            peak = 0
            for part in (0.7, 0.8, 0.9, 1.0):
                result = flood(closed * part, args.seconds / 6)
                peak = max(peak, result["goodput"])
                print(f"{closed * part:.0f} requests/s asked: {result['goodput']:.0f} served, "
                      f"{result['p50'] / 1000:.1f} ms (p50), {result['p99'] / 1000:.1f} ms (p99)")
            result = flood(peak * args.times, args.seconds)
            print(f"{args.times:g} times the open loop's peak: {result['goodput']:.0f} served, {result['goodput'] / peak:.1%} of that peak, "
                  f"{result['goodput'] / closed:.1%} of the closed loop's; memory {result['grown']:+.1f} MiB")
            print(json.dumps(result))


if __name__ == "__main__":
    main()
