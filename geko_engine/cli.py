"""geko-train: start a run from a YAML file or the demo, or resume one, with a progress bar. Knows no page.

Exit codes: 0 complete, 1 failed, 2 invalid input (nothing was started), 130 stopped (continue with --resume).
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from typing import Any

from geko_engine import __version__
from geko_engine.config.declaration import raise_problems
from geko_engine.config.run_config import RunConfig, apply_overrides, read_yaml
from geko_engine.config.yaml_text import parse_yaml
from geko_engine.exceptions import ConfigError, GekoError, RunError, RunLockedError
from geko_engine.hub.downloads import exit_despite_downloads
from geko_engine.launch import is_main_process, process_count
from geko_engine.preflight.checks import preflight
from geko_engine.processes import share_folder
from geko_engine.reporting.events import Event
from geko_engine.run import run
from geko_engine.runs.folder import RunFolder
from geko_engine.runs.stop_flag import StopFlag
from geko_engine.runs.writer import RunWriter

MAY_CHANGE = {"training.num_processes", "training.gpu_ids", "training.fsdp"}  # where a run goes on, not what it does
EXIT_CODES = {"complete": 0, "failed": 1, "stopped": 130}


def build_parser() -> argparse.ArgumentParser:
    """The command line of geko-train."""
    parser = argparse.ArgumentParser(
        prog="geko-train",
        description="Fine-tune a language model and spend the compute on the samples that need it.",
        epilog="Example: geko-train run.yaml --set training.num_epochs=1",
    )
    parser.add_argument(
        "config", nargs="?", help="YAML file with the sections model, data, lora, training, geko and the key output_dir"
    )
    parser.add_argument(
        "--demo", action="store_true", help="use the built-in model and data: takes minutes on a CPU, needs no network"
    )
    parser.add_argument("--resume", metavar="RUN", help="folder of a run to continue from its newest checkpoint")
    parser.add_argument(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        dest="overrides",
        help="set any setting, for example training.num_epochs=1 (repeatable)",
    )
    parser.add_argument("--check", action="store_true", help="check data, memory and time, and exit without training")
    parser.add_argument("--show-config", action="store_true", help="print the complete configuration as YAML and exit")
    parser.add_argument("--version", action="version", version=f"geko {__version__}")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of geko-train. Returns the exit code."""
    options = build_parser().parse_args(argv)
    try:
        folder, config = _open_together(options)
    except GekoError as error:
        for field, message in error.problems:
            print(f"geko-train: {field + ': ' if field else ''}{message}", file=sys.stderr)
        return 2
    if options.show_config:
        print(config.to_yaml(), end="")
        return 0
    if options.check:
        return _check(config)
    assert folder is not None
    return _train(folder, config, resume=bool(options.resume))


def _open_together(options: argparse.Namespace) -> tuple[RunFolder | None, RunConfig]:
    """`_open`, with the folder of the first process in all of them.

    Raises:
        GekoError: in every process, when one of them cannot begin. A folder that was made for nothing is removed.
    """
    if process_count() == 1 or options.show_config or options.check:
        return _open(options)
    try:
        folder, config = _open(options)
    except GekoError as error:
        share_folder(None, "; ".join(f"{field + ': ' if field else ''}{message}" for field, message in error.problems))
        raise
    try:
        return share_folder(folder), config
    except RunError:
        if folder is not None and not options.resume:
            shutil.rmtree(folder.path, ignore_errors=True)
        raise


def parse_override(text: str) -> tuple[str, Any]:
    """("training.num_epochs", 1) from "training.num_epochs=1". Raises ConfigError if there is no "="."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set {text!r} has no '=': write --set training.num_epochs=1.")
    try:
        return key.strip(), parse_yaml(value)
    except ConfigError:
        return key.strip(), value


def _open(options: argparse.Namespace) -> tuple[RunFolder | None, RunConfig]:
    """(run folder, configuration). The folder is None with --show-config or --check, and in all processes but the first."""
    chosen = [bool(options.config), options.demo, bool(options.resume)]
    if sum(chosen) > 1 or not (any(chosen) or options.overrides or options.show_config):
        raise ConfigError("Give a YAML file, --demo or --resume RUN, or --set alone to change the defaults.")
    if options.resume:
        overrides = dict(map(parse_override, options.overrides))
        fixed = sorted(set(overrides) - MAY_CHANGE)
        if fixed:
            raise ConfigError(
                f"--resume continues a run with the settings it was started with ({', '.join(sorted(MAY_CHANGE))} may "
                f"change): leave out --set {fixed[0]}, or start a new run."
            )
        folder = RunFolder.open(options.resume)
        status = folder.status()
        if status and status.alive and not status.end:
            raise ConfigError(f"The run {folder.id} is still running (process {status.pid}): stop it first.")
        folder.require_known_format()
        folder.require_unfinished()
        return folder, folder.change_config(overrides) if overrides and is_main_process() else folder.config()
    values = RunConfig.demo().to_dict() if options.demo else read_yaml(options.config) if options.config else {}
    overrides = dict(map(parse_override, options.overrides))
    config = RunConfig.from_dict(apply_overrides(values, overrides), on_renamed=_print_renamed)
    if options.show_config or options.check:
        return None, config
    raise_problems(preflight(config))
    return RunFolder.create(config) if is_main_process() else None, config


def _print_renamed(sentence: str) -> None:
    if is_main_process():
        print(f"geko-train: {sentence}", file=sys.stderr)


def _check(config: RunConfig) -> int:
    """Check everything that the run would use. Writes nothing but the token cache."""
    from geko_engine.preflight.preview import inspect
    from geko_engine.reporting.console import Console

    return EXIT_CODES[inspect(config, Console(), lambda: False)]


def _train(folder: RunFolder, config: RunConfig, *, resume: bool) -> int:
    stop = StopFlag(folder).install()
    if not is_main_process():
        report = run(folder, should_stop=stop, resume=resume)
        if report["end"] == "failed":
            print(f"geko-train: {report['reason']}", file=sys.stderr)
        return exit_despite_downloads(_exit_code(report))
    try:
        report = _run_and_show(folder, config, stop, resume)
    except RunLockedError as error:
        print(f"geko-train: {error}", file=sys.stderr)
        return 2
    except RunError as error:  # not even the end of the run could be written
        print(f"geko-train: {error}", file=sys.stderr)
        return exit_despite_downloads(EXIT_CODES["failed"])
    if report["end"] == "failed":
        print(f"geko-train: {report['reason']}", file=sys.stderr)
    if report["end"] == "stopped":
        print(f"[GEKO] Stopped. Continue with: geko-train --resume {folder.path}", file=sys.stderr)
    return exit_despite_downloads(_exit_code(report))


def _run_and_show(folder: RunFolder, config: RunConfig, stop: StopFlag, resume: bool) -> dict[str, Any]:
    """The report of the run in `folder`, whose events go into the folder and to the terminal."""
    from geko_engine.reporting.console import Console

    console = Console(log_bucket_stats=config.geko.log_bucket_stats, logging_steps=config.training.logging_steps)
    print(f"[GEKO] Run folder: {folder.path}", file=sys.stderr)
    with RunWriter(folder, clear_stop=resume) as write:

        def on_event(event: Event) -> None:
            write(event)
            console(event)

        return run(folder, on_event=on_event, should_stop=stop, resume=resume)


def _exit_code(report: dict[str, Any]) -> int:
    """The exit code. Launchers of several processes treat any code but 0 as a crash, so a stop is 0 there."""
    return 0 if process_count() > 1 and report["end"] == "stopped" else EXIT_CODES[report["end"]]


if __name__ == "__main__":
    sys.exit(main())
