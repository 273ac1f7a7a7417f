"""`aerogel loadtest`: measure an HTTP server under Poisson arrivals.

A verb of its own: `bench` measures files in processes that it starts, and none of its arguments applies to a server.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from aerogel.registry import plugin_names
from aerogel.system import arguments

HELP = "measure an embedding server under an open load, or find the rate that it sustains"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    routes = ", ".join(plugin_names("aerogel.loadtest.routes"))
    parser.add_argument("url", metavar="URL", help="the server, such as http://localhost:8080")
    parser.add_argument(
        "--route", default="tei", metavar="ROUTE", help=f"what to send: {routes} (default: tei)"
    )
    parser.add_argument("--path", metavar="PATH", help="path of the URL instead of the route's")
    parser.add_argument(
        "--body",
        type=Path,
        metavar="FILE.json",
        help='body instead of the route\'s; its values "{text}" and "{model}" are replaced',
    )
    parser.add_argument("--model", default="", metavar="NAME", help="name of the model in the body")
    parser.add_argument(
        "--header",
        action=arguments.Pairs,
        default={},
        metavar="NAME=VALUE",
        help="HTTP header; may be given several times",
    )
    parser.add_argument(
        "--rate",
        type=_rates,
        default=[10.0],
        metavar="R,...",
        help="requests per second, comma-separated; with --find-rate the first one to try (default: 10)",
    )
    parser.add_argument(
        "--find-rate", action="store_true", help="find the highest rate without errors whose p99 holds --p99"
    )
    parser.add_argument("--p99", type=float, metavar="MS", help="bound of --find-rate in milliseconds")
    parser.add_argument(
        "--precision", type=float, default=0.05, metavar="P", help="of --find-rate, relative (default: 0.05)"
    )
    parser.add_argument(
        "--seconds", type=float, default=20.0, metavar="S", help="length of a measurement (default: 20)"
    )
    parser.add_argument(
        "--warmup", type=float, default=3.0, metavar="S", help="seconds of load before it (default: 3)"
    )
    parser.add_argument(
        "--texts", type=Path, metavar="FILE", help="file of texts, one per line, drawn at random"
    )
    parser.add_argument(
        "--tokens",
        type=float,
        default=24,
        metavar="N",
        help="without --texts: median tokens of a log-normal length (default: 24)",
    )
    parser.add_argument(
        "--sigma",
        type=float,
        default=0.6,
        metavar="S",
        help="standard deviation of the logarithm of the length; 0 for one length (default: 0.6)",
    )
    parser.add_argument(
        "--max-tokens", type=int, default=512, metavar="N", help="largest length (default: 512)"
    )
    parser.add_argument(
        "--connections", type=int, default=64, metavar="N", help="keep-alive connections (default: 64)"
    )
    parser.add_argument(
        "--timeout", type=float, default=10.0, metavar="S", help="seconds for an answer (default: 10)"
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="S", help="seed of arrivals and texts (default: 0)"
    )
    parser.add_argument(
        "--json", type=arguments.output, metavar="FILE", help="write all measurements to FILE"
    )
    parser.add_argument(
        "--plot", type=arguments.output, metavar="FILE.png", help="plot p50 and p99 against the rate"
    )


def run(args: argparse.Namespace) -> int:
    """Measure, print the table, write the requested files; 1 if no rate holds the bound."""
    from aerogel.errors import UsageError
    from aerogel.loadtest import report
    from aerogel.loadtest.route import ROUTES, Route, template
    from aerogel.loadtest.run import LoadConfig, run_load
    from aerogel.loadtest.texts import Lengths
    from aerogel.system.atomic_io import atomic_file, check_output
    from aerogel.system.overlap import check_outputs_distinct
    from aerogel.system.terminal import console

    if args.find_rate != (args.p99 is not None):
        raise UsageError("--find-rate and --p99 belong together; give both or neither")
    check_outputs_distinct(
        {"--json": args.json, "--plot": args.plot},
        {"the --texts file": args.texts, "the --body file": args.body},
    )
    for output in filter(None, (args.json, args.plot)):
        check_output(output)
    if args.plot:
        report.check_plot(args.plot)
    route = ROUTES.get(args.route)
    path = args.path or route.path
    if not path.startswith("/"):
        raise UsageError(f"--path {path}: must begin with /")
    config = LoadConfig(
        args.url,
        template(args.body, path) if args.body else Route(path, route.body),
        args.model,
        rates=args.rate,
        bound=args.p99,
        precision=args.precision,
        seconds=args.seconds,
        warmup=args.warmup,
        texts=args.texts,
        lengths=Lengths(args.tokens, args.sigma, args.max_tokens),
        seed=args.seed,
        connections=args.connections,
        timeout=args.timeout,
        headers=args.header,
    )
    errors = console(stderr=True)
    result = run_load(
        config,
        lambda point: errors.print(f"{point.rate:,.1f}/s: p99 {point.p99:,.2f} ms, {point.failed} errors"),
    )
    title = f"{args.url}{path}, {config.seconds:g} s per rate"
    console().print(report.table(result.points, title, config.bound))
    late = max(point.lag_p99 for point in result.points)
    if late > report.MAX_LAG:
        errors.print(
            f"warning: the generator itself was late by {late:.1f} ms at p99; give it a core of its own, "
            "or lower the rate"
        )
    if args.json:
        with atomic_file(args.json) as file:
            text = json.dumps(report.document(config, args.route, result), indent=2, allow_nan=False)
            file.write_text(text + "\n", encoding="utf-8")
    if args.plot:
        report.plot(result.points, title, config.bound, args.plot)
    if config.bound is None:
        return 0
    if result.found is None:
        console().print(f"no rate from 1 request per second has a p99 of at most {config.bound:g} ms")
        return 1
    console().print(
        f"highest rate with p99 <= {config.bound:g} ms: {result.found.rate:,.1f} requests per second"
    )
    return 0


def _rates(text: str) -> list[float]:
    try:
        return [float(word) for word in text.split(",")]
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a comma-separated list of numbers") from error
