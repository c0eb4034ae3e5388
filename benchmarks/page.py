"""What the page's server takes to answer on a large run: 100,000 samples, 50,000 steps, and a list of 200 runs.

python -m benchmarks.page [--repetitions N] [--large]

The functions that the scripts call are called directly: no browser and no network is measured.
"""

from __future__ import annotations

import itertools
import json
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.common import arguments, in_child, print_table, write_results
from geko_app.pages import runs
from geko_app.pages.dashboard import dashboard_endpoints
from geko_app.pages.samples import sample_endpoints
from geko_app.runs.store import RunStore
from geko_app.samples.store import SampleStore
from geko_app.telemetry import Telemetry
from geko_app.views.runs import RunTable
from geko_app.workers.issue_checks import IssueChecks
from geko_app.workers.supervisor import Supervisor
from geko_engine.config.run_config import RunConfig
from geko_engine.config.sections import DataConfig
from geko_engine.data.formats import recognise
from geko_engine.data.rendering import RenderedRows
from geko_engine.data.tokenization import tokenise_rendered
from geko_engine.demo import demo_path
from geko_engine.reporting.events import Evaluated, RunEnded, RunStarted, StepCompleted
from geko_engine.runs.folder import RunFolder
from geko_engine.runs.sample_texts import write_sample_texts
from geko_engine.runs.writer import RunWriter
from geko_engine.selection.history import History
from geko_engine.selection.sample_records import SampleStates

SAMPLES, STEPS, RUNS, EPOCHS = 100_000, 50_000, 200, 4
Answers = dict[str, Callable[[Any], Any]]
Query = Callable[[], Any]


def completed(step: int, steps: int = STEPS, samples: int = SAMPLES) -> StepCompleted:
    """A step of a made-up run of so many steps and samples: its loss falls, its buckets fill."""
    share, tokens = step / steps, 800 * step
    frozen = int(samples * share / 2)
    return StepCompleted(
        step=step,
        epoch=int(EPOCHS * share),
        progress=min(1.0, share),
        steps_planned=steps,
        loss=2.5 * float(np.exp(-3 * share)) + 0.1 * (step % 7),
        learning_rate=7e-4 * (1 - share),
        phase="",
        samples=16,
        tokens_forwarded=tokens,
        tokens_backwarded=tokens,
        plain_training_tokens=1000 * step,
        compute_saved_ratio=0.2,
        seconds=0.05 * step,
        train_seconds=0.05 * step,
        freeze=frozen,
        light=1000,
        focus=2000,
        hard=500,
        unseen=samples - frozen - 3500,
    )


def write_events(folder: RunFolder, steps: int, planned: int = STEPS, samples: int = SAMPLES) -> None:
    """A run of `steps` of the `planned` steps from its start to its end, as its worker writes it."""
    with RunWriter(folder) as write:
        write(
            RunStarted("demo", samples, 600, EPOCHS, planned // EPOCHS, 16, 10**7, 10**6, 10**6, 10**6, "cpu", "fp32")
        )
        for step in range(1, steps + 1):
            write(completed(step, planned, samples))
            if step % 1000 == 0:
                write(Evaluated(step, 0, 1.0, 0.5, 600, 800 * step, 1.0))
        # Stopped, because nobody may go on with a complete run.
        write(RunEnded("stopped", "You asked for a stop.", {"end": "stopped", "steps": steps, "samples": samples}))


def write_samples(folder: RunFolder, count: int, steps: int = STEPS) -> None:
    """Texts, facts, record and history of `count` samples: the demo's rows, each with a number of its own."""
    from transformers import AutoTokenizer

    lines = demo_path("train.jsonl").read_text(encoding="utf-8").splitlines()
    known = [json.loads(line) for line in lines]
    rows = [{**known[i % len(known)], "prompt": f"{known[i % len(known)]['prompt']} {i}"} for i in range(count)]
    tokenizer = AutoTokenizer.from_pretrained(str(demo_path("model")))
    rendered = RenderedRows(rows, recognise(rows, DataConfig()), tokenizer)
    write_sample_texts(folder.path, rendered, tokenise_rendered(rendered, 128))
    rng, states, history, config = np.random.default_rng(0), SampleStates(count), History(count), RunConfig().geko
    for epoch in range(1, EPOCHS + 1):
        loss = rng.exponential(1 / epoch, count).astype(np.float32)
        confidence, correct = rng.random(count, dtype=np.float32) ** 0.3, rng.random(count) < 0.2 * epoch
        step = steps * epoch // EPOCHS
        states.record(np.arange(count), loss, confidence, correct, np.exp(-loss), step=step, config=config)
        states.partition(config)
        history.append(states, epoch=epoch, step=step)
    states.save(folder.samples_path)
    history.save(folder.history_path)


def make_runs(root: str, count: int) -> str:
    """RUNS runs below `root`; the id of the large one of `count` samples. In a child: the page knows no torch."""
    store = RunStore(root)
    config = RunConfig.from_dict({**RunConfig.demo().to_dict(), "output_dir": root})
    for number in range(RUNS - 1):
        config.model.name = f"demo-{number}"  # part of the id: many a run is made in the same second
        write_events(store.create(config), 20)
    config.model.name = "demo"
    large = store.create(config)
    write_events(large, STEPS)
    write_samples(large, count)
    return large.id


def named(functions: list[Callable[[Any], Any]]) -> Answers:
    """The page's functions by name."""
    return {function.__name__: function for function in functions}


def dashboard_functions(supervisor: Supervisor) -> Answers:
    """What the dashboard asks the server for."""
    return named(dashboard_endpoints(supervisor, Telemetry()))


def sample_functions(supervisor: Supervisor) -> Answers:
    """What the Samples page asks the server for; its files have not been read yet."""
    return named(sample_endpoints(supervisor, SampleStore(supervisor.store), IssueChecks()))


def measured(ask: Query, repetitions: int, before: Callable[[], object] = lambda: None) -> dict[str, float]:
    """p50 and p95 in milliseconds of an answer written as JSON, and its largest number of bytes."""
    seconds, sizes = [], []
    for _ in range(repetitions):
        before()
        began = time.perf_counter()
        text = json.dumps(ask(), separators=(",", ":"))
        seconds.append(time.perf_counter() - began)
        sizes.append(len(text.encode()))
    middle, late = np.percentile(seconds, [50, 95]) * 1000
    return {"p50_ms": round(float(middle), 2), "p95_ms": round(float(late), 2), "bytes": max(sizes)}


def dashboard(supervisor: Supervisor, run: str, repetitions: int) -> dict[str, Any]:
    """A poll for the whole history, one with nothing new, and one after each new step; the run goes on meanwhile."""
    pull = dashboard_functions(supervisor)["pull"]
    folder, steps = supervisor.store.folder(run), itertools.count(STEPS + 1)
    cursor: dict[str, Any] = {}

    def asked(**more: Any) -> Any:
        answer = pull({"run": run, "shown": run, **more})
        cursor.update(answer["next"])
        return answer

    def another_step(write: RunWriter) -> None:
        write(completed(next(steps)))
        supervisor.feed(run).read()

    asked()
    with RunWriter(folder) as write:
        another_step(write)
        found = {
            "Dashboard: whole history": measured(asked, repetitions),
            "Dashboard: nothing new": measured(lambda: asked(cursor=cursor), repetitions),
            "Dashboard: one step more": measured(
                lambda: asked(cursor=cursor), repetitions, before=lambda: another_step(write)
            ),
        }
        write(RunEnded("complete", "The run went to its end.", {"end": "complete", "steps": STEPS}))
    return found


def samples_page(supervisor: Supervisor, run: str, repetitions: int) -> dict[str, Any]:
    """The Samples page from files that nobody has read yet, and then what a user does on it."""
    held, numbers, sorts = (
        sample_functions(supervisor),
        itertools.count(10_000),
        itertools.cycle(["loss", "confidence", "q", "bucket"]),
    )

    def first() -> Any:
        functions = sample_functions(supervisor)
        return [functions["pull"]({"run": run}), functions["table"]({"run": run})]

    def page(**view: Any) -> Any:
        return held["table"]({"run": run, **view})

    version = held["pull"]({"run": run})["version"]
    page()
    ask: dict[str, Query] = {
        "Samples: first load": first,
        "Samples: nothing new": lambda: held["pull"]({"run": run, "version": version}),
        "Samples: sort": lambda: page(sort=next(sorts), down=True),
        "Samples: filter": lambda: page(filter="hard"),
        "Samples: search": lambda: page(text=str(next(numbers))),  # another text each time: none is remembered
        "Samples: open one": lambda: held["sample"]({"run": run, "id": 7 * next(numbers) % SAMPLES}),
        "Samples: map": lambda: held["data_map"]({"run": run}),
    }
    return {name: measured(query, repetitions) for name, query in ask.items()}


def runs_page(supervisor: Supervisor, repetitions: int) -> dict[str, Any]:
    """The list of runs as nobody has read it yet, and with nothing new."""
    table = RunTable(supervisor)
    changes = named(runs._list_endpoints(table))["changes"]
    had = changes({})
    seen = {"generation": had["generation"], "number": had["number"]}
    return {
        f"Runs: first load of {RUNS}": measured(lambda: RunTable(supervisor).changes("", 0), repetitions),
        "Runs: first load of another tab": measured(lambda: changes({}), repetitions),
        "Runs: nothing new": measured(lambda: changes(seen), repetitions),
    }


def main() -> None:
    """Measure, print and write results/page.jsonl."""
    options = arguments(__doc__ or "", repetitions=50)
    count = 10 * SAMPLES if options.large else SAMPLES
    with tempfile.TemporaryDirectory() as root:
        run = in_child(make_runs, root, count)
        supervisor = Supervisor(RunStore(root))
        results = {
            **dashboard(supervisor, run, options.repetitions),
            **samples_page(supervisor, run, options.repetitions),
            **runs_page(supervisor, options.repetitions),
        }
        supervisor.shutdown()
    rows = [(name, f["p50_ms"], f["p95_ms"], f"{f['bytes'] / 1000:.1f}") for name, f in results.items()]
    title = f"Answers of the server, {count:,} samples and {STEPS:,} steps"
    print_table(title, ("question", "p50 ms", "p95 ms", "kB"), rows)
    settings = {"repetitions": options.repetitions, "samples": count, "steps": STEPS, "runs": RUNS, "epochs": EPOCHS}
    write_results("page", settings, results, options)


if __name__ == "__main__":
    main()
