"""Serves a run's best checkpoint over HTTP, and every better one that comes.

    kunlun-jax serve --run=runs/shop --port=8000
    kunlun-jax serve --run=runs/shop --port=8000 --histories=view=views.csv

`python -m kunlun_jax.serve` is the same command. docs/after_training.md has the requests, what each
status means, and the metrics. It prints its address when it is ready; SIGTERM ends it in order.
"""

import functools
import json
import pathlib
import sys

from absl import app, flags

from kunlun_jax.training.allocator import keep_freed_memory

keep_freed_memory()  # before JAX is imported

from kunlun_jax.command_line import one_line, parse_flags, run_program  # noqa: E402
from kunlun_jax.training.run import USER_ERRORS  # noqa: E402


def main(argv: list[str]) -> None:
    """Serve the run that the flags name until a signal comes."""
    values = flags.FLAGS
    if len(argv) > 1:
        raise app.UsageError(f"expected flags only, got {argv[1]!r:.100} (quote paths with blanks)")
    try:
        _serve(values)
    except ModuleNotFoundError as error:
        sys.exit(one_line(ImportError(f"{error}: pip install 'kunlun_jax[serve]'")))
    except (*USER_ERRORS, ImportError, MemoryError) as error:
        sys.exit(one_line(error))


def _serve(values: flags.FlagValues) -> None:
    # Not above: --help needs none of it, and the extra may be missing.
    from kunlun_jax.serving.collector import leave_loaded_objects_alone
    from kunlun_jax.serving.http.app import Limits, Service
    from kunlun_jax.serving.http.bodies import Bodies
    from kunlun_jax.serving.http.histories import read_histories
    from kunlun_jax.serving.http.metrics import Metrics
    from kunlun_jax.serving.http.process import Server, bind
    from kunlun_jax.serving.http.reloading import Watcher
    from kunlun_jax.serving.http.scorer import Scorer
    from kunlun_jax.serving.ranker import Ranker
    from kunlun_jax.serving.trained import open_trained

    report = functools.partial(print, file=sys.stderr, flush=True)
    workdir, metrics = pathlib.Path(values.run), Metrics()
    bound = bind(values.host, values.port)
    trained = open_trained(workdir, dataset=values.dataset)
    histories = read_histories(trained, workdir, values.histories) if values.histories else None
    bodies = Bodies(
        trained.schema, max_candidates=values.max_candidates, has_histories=histories is not None
    )
    limits = Limits(values.max_body_kb * 1024, values.body_timeout, values.timeout)
    scorer = Scorer(
        Ranker(trained),
        histories,
        metrics,
        max_queue=values.queue,
        max_batch=values.batch,
        batch_seconds=values.batch_wait_ms / 1000,
    )
    watcher = Watcher(workdir, trained, scorer, metrics, report)
    if values.reload:
        watcher.start(values.reload)
    service = Service(
        bodies, scorer, metrics, tasks=trained.schema.labels, limits=limits, report=report
    )
    leave_loaded_objects_alone()
    host, port = bound.getsockname()[:2]
    bound.listen()  # from here on a connection waits for the server instead of being refused
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    print(json.dumps({"url": url, "step": trained.step}), flush=True)
    server = Server(
        service, limits, drain_seconds=values.drain, max_connections=values.max_connections
    )
    server.run(sockets=[bound])
    watcher.close()
    scorer.close(timeout=limits.score_seconds)


def define_flags() -> None:
    """Define the flags of this command."""
    flags.DEFINE_string("run", None, "Working directory of the run.", required=True)
    flags.DEFINE_integer("port", None, "TCP port; 0 takes a free one.", 0, 65535, required=True)
    flags.DEFINE_string("host", "127.0.0.1", "Interface; there is no authentication.")
    flags.DEFINE_multi_string(
        "histories",
        [],
        "Histories by user: STREAM=FILES for every stream of tables; else the data set's folder.",
    )
    flags.DEFINE_string("dataset", None, "Data set of the run, if it is needed and not found.")
    flags.DEFINE_float("reload", 10.0, "Seconds between looks for a better checkpoint; 0: none.", 0)
    flags.DEFINE_float("timeout", 2.0, "Seconds from a whole request to its answer.", 0.001)
    flags.DEFINE_float("body_timeout", 10.0, "Seconds for head and body of a request.", 0.001)
    flags.DEFINE_float("drain", 0.0, "Seconds to take requests after SIGTERM, readiness off.", 0)
    flags.DEFINE_integer("queue", 64, "Requests that wait; further ones get 429.", 1)
    flags.DEFINE_integer("batch", 8, "Requests of a micro-batch.", 1)
    flags.DEFINE_float("batch_wait_ms", 0.0, "How long a micro-batch waits to be full.", 0)
    flags.DEFINE_integer("max_candidates", 1000, "Candidates of a request.", 1)
    flags.DEFINE_integer("max_body_kb", 1024, "KiB of a body.", 1)
    flags.DEFINE_integer("max_connections", 1000, "Connections; further requests get 503.", 1)


if __name__ == "__main__":
    define_flags()
    run_program(main, parse_flags, quiet=True)
