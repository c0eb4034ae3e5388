"""One complete run from its folder: prepare, train, save, report. Used by command line and page; knows no screen."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from geko_engine.config.declaration import raise_problems
from geko_engine.config.run_config import RunConfig
from geko_engine.data.excluded_rows import read_row_flags
from geko_engine.exceptions import GekoError, RunError, Stopped
from geko_engine.launch import Peers, is_main_process, process_count
from geko_engine.preflight.checks import check_hub_access, preflight
from geko_engine.processes import join_processes, start_processes
from geko_engine.reporting.events import Event, Message, ModelSaved, PhaseChanged, RunEnded
from geko_engine.runs.announcing import announce_end
from geko_engine.runs.disk_guard import CHECKPOINT, MODEL, DiskGuard
from geko_engine.runs.failures import disk_is_full, lost_process, unexpected
from geko_engine.runs.folder import RunFolder
from geko_engine.runs.lock import RunLock
from geko_engine.storage.atomic_files import replace_folder, replace_json, replace_text
from geko_engine.storage.disk_space import disk_refuses, free_reserve, is_full, try_twice
from geko_engine.storage.user_paths import expand
from geko_engine.training.step_size import in_words, smaller_batches, split_step

STOPPED_EARLY = {"end": "stopped", "reason": "Stopped before the training started.", "steps": 0}
OnEvent = Callable[[Event], None]
ShouldStop = Callable[[], bool]


def run(
    folder: RunFolder, *, on_event: OnEvent | None = None, should_stop: ShouldStop | None = None, resume: bool = False
) -> dict[str, Any]:
    """Train the run in `folder` to its end, and write report.json.

    Emits exactly one RunEnded event. An error that the user can solve ends the run as "failed" with one sentence. Any
    other error is a bug: it ends the run as "failed" and is raised.

    Args:
        folder: of the run, with a config.yaml.
        on_event: called with every event.
        should_stop: called often; True saves a checkpoint and ends the run as "stopped".
        resume: continue from the newest checkpoint, or from the beginning if there is none.

    Returns:
        The report.

    Raises:
        RunLockedError: when another process writes this run.
    """
    with RunLock(folder.path) if is_main_process() else contextlib.nullcontext():
        return _run_to_its_end(folder, on_event or (lambda event: None), should_stop or (lambda: False), resume)


def _run_to_its_end(folder: RunFolder, emit: OnEvent, stop: ShouldStop, resume: bool) -> dict[str, Any]:
    began = time.monotonic()

    def end(text: str, field: str) -> dict[str, Any]:
        report = {"end": "failed", "reason": text, "seconds": time.monotonic() - began}
        _end(folder, emit, report, field)
        return report

    def lost(text: str, field: str) -> None:
        try:
            end(text, field)
        finally:
            os._exit(1)  # the main thread waits for a process that is gone

    with Peers(folder.path, lost) as peers:
        try:
            report = _run(folder, emit, stop, resume, peers)
        except GekoError as error:
            return end(*(disk_is_full(folder) if is_full(error) else (str(error), error.problems[0][0])))
        except Exception as error:
            known = peers.failure() or lost_process(error, folder)
            text, field = known or (disk_is_full(folder) if is_full(error) else unexpected(error, folder))
            report = end(text, field)
            if not field and not known:
                raise
            return report
        _end(folder, emit, report, "")
    return report


def _run(folder: RunFolder, emit: OnEvent, stop: ShouldStop, resume: bool, peers: Peers) -> dict[str, Any]:
    config = folder.config_with_saved_flags(on_renamed=lambda sentence: emit(Message(sentence, "warning")))
    raise_problems(preflight(config))
    for sentence in config.without_effect():
        emit(Message(sentence, "warning"))
    _keep_decisions(folder, config)
    try:
        check_hub_access(config, stop)
    except Stopped:
        return dict(STOPPED_EARLY)
    if stop():  # before seconds are spent on torch
        return dict(STOPPED_EARLY)
    emit(PhaseChanged("starting", "loading torch"))
    start_processes(config.training, emit, peers, resume=resume)
    from transformers.utils import logging  # imports torch, so it comes after everything that can fail without torch

    logging.disable_progress_bar()  # progress is reported as events
    join_processes(config.training)
    if (
        config.training.auto_find_batch_size and process_count() == 1
    ):  # a single process cannot change the batch size of all
        return _with_smaller_batches(folder, config, emit, stop, resume, peers)
    return _train(folder, config, emit, stop, resume, peers)


def _with_smaller_batches(
    folder: RunFolder, config: RunConfig, emit: OnEvent, stop: ShouldStop, resume: bool, peers: Peers
) -> dict[str, Any]:
    """Train. If memory runs out, continue from the newest checkpoint with smaller batches and the same samples a step."""
    from accelerate.utils import find_executable_batch_size

    tried = list(smaller_batches(config.training))
    number = 0

    def smaller() -> int:
        nonlocal number
        number += 1
        if number < len(tried):
            emit(Message(f"Memory ran out: continuing with {tried[number][1]}.", "warning"))
        return len(tried) - number

    def attempt(_left: int) -> dict[str, Any]:
        args = dataclasses.replace(config, training=tried[number][0])
        return _train(folder, args, emit, stop, resume or number > 0, peers)

    retrying = find_executable_batch_size(attempt, starting_batch_size=len(tried), reduce_batch_size_fn=smaller)
    report: dict[str, Any] = retrying()
    return report


def _train(
    folder: RunFolder, config: RunConfig, emit: OnEvent, stop: ShouldStop, resume: bool, peers: Peers
) -> dict[str, Any]:
    from geko_engine.trainer_setup import prepare_trainer  # imports torch

    guard = DiskGuard(folder.path, emit, stop)
    checkpoint = _checkpoint_to_resume(folder, config, emit) if resume else _given_checkpoint(config)
    if checkpoint is not None and checkpoint.parent == folder.checkpoints_path:
        config = _with_same_steps(checkpoint, config, emit)
    try:
        trainer, record_writer, dtype = prepare_trainer(folder, config, guard, stop)
        if checkpoint is not None:
            emit(PhaseChanged("starting", f"resuming from {checkpoint.name}"))
            trainer.load_checkpoint(checkpoint)
            if checkpoint.parent != folder.checkpoints_path:
                trainer.progress.events = 0  # it counted those of another run
    except Stopped:
        return dict(STOPPED_EARLY)
    if process_count() == 1:  # several would wait for the first one, and give up
        guard.sizes = _sizes_on_disk(trainer, dtype)
    report: dict[str, Any] = trainer.train()
    if report["steps"] == 0 and report["end"] == "complete":
        raise RunError("Nothing was trained: no sample was selected.")
    state = trainer.engine.whole_state()  # the last word of the other processes
    peers.release()
    if trainer.engine.is_main:
        record_writer.flush()
        report["model_path"] = _save_model(trainer, folder, dtype, guard, state)
    trainer.engine.end()
    return report


def _sizes_on_disk(trainer: Any, dtype: Any) -> dict[str, Callable[[], int]]:
    """Bytes of what the run writes: functions, because the optimizer's state comes with the first step."""
    from geko_engine.models.saving import saved_bytes
    from geko_engine.training.checkpoint import expected_bytes

    sizes: dict[str, Callable[[], int]] = {MODEL: lambda: saved_bytes(trainer.model, dtype)}
    if trainer.args.save_steps or trainer.args.save_at_end:
        sizes[CHECKPOINT] = lambda: expected_bytes(trainer.model, trainer.engine, trainer.policy, trainer.ending)
    return sizes


def _keep_decisions(folder: RunFolder, config: RunConfig) -> None:
    """Copy row flags and corrections, which go on changing, and let the run read the copies; so does a resumed one."""
    data = config.data
    if data.corrections:
        if is_main_process():
            log = expand(data.corrections)
            _keep_held_out(folder, log.parent)
            replace_text(folder.used_corrections_path, log.read_text(encoding="utf-8"))
        data.corrections = str(folder.used_corrections_path)
    if data.row_flags:
        if is_main_process():
            replace_json(folder.used_flags_path, {"rows": read_row_flags(data.row_flags)})
            _keep_held_out(folder, expand(data.row_flags).parent)
        data.row_flags = str(folder.used_flags_path)


def _keep_held_out(folder: RunFolder, earlier: Path) -> None:
    """A run with the corrections or the flags of an earlier one goes on with the evaluation rows of that."""
    held_out = earlier / folder.held_out_path.name
    if held_out.is_file() and not folder.held_out_path.exists():
        replace_text(folder.held_out_path, held_out.read_text(encoding="utf-8"))


def _given_checkpoint(config: RunConfig) -> Path | None:
    given = config.training.resume_from_checkpoint
    return Path(given).expanduser() if given else None


def _checkpoint_to_resume(folder: RunFolder, config: RunConfig, emit: OnEvent) -> Path | None:
    """The newest complete checkpoint of the run, else the one it was started from. Warns about damaged ones."""
    from geko_engine.training.checkpoint_files import newest_whole

    checkpoint, problems = newest_whole(folder.checkpoints_path)
    for problem in problems:
        emit(Message(problem.replace("resume from another one.", "it is skipped."), "warning"))
    return checkpoint or _given_checkpoint(config)


def _with_same_steps(checkpoint: Path, config: RunConfig, emit: OnEvent) -> RunConfig:
    """`config` with a batch size and accumulation that give the steps of this run their samples, in the processes of now."""
    from geko_engine.training.checkpoint_files import MANIFEST, read_manifest

    args, processes = config.training, process_count()
    samples = read_manifest(checkpoint, MANIFEST)["identity"]["samples_per_step"]
    found = split_step(samples, args.batch_size, processes)
    if found in (None, (args.batch_size, args.gradient_accumulation_steps)):
        return config  # the checkpoint says why it does not fit, if it does not
    size, steps = found
    emit(
        Message(
            f"Continuing in {in_words(processes)} with batch size {size} and {steps} accumulation steps, so that a step "
            f"still has {samples} samples.",
            "warning",
        )
    )
    args = dataclasses.replace(args, batch_size=size, gradient_accumulation_steps=steps)
    return dataclasses.replace(config, training=args)


def _save_model(trainer: Any, folder: RunFolder, dtype: Any, emit: OnEvent, state: dict[str, Any] | None) -> str:
    """Save the model atomically to model/ in the run folder, its weights in `dtype`, and return the path."""
    from geko_engine.models.saving import save_model

    emit(PhaseChanged("saving", "model"))
    held = getattr(trainer.model, "dtype", dtype)
    if dtype not in (None, held) and not hasattr(trainer.model, "peft_config"):
        emit(Message(f"The weights are saved in {str(dtype).removeprefix('torch.')}, like those of the base model."))
    try:
        replace_folder(folder.model_path, lambda path: save_model(trainer.model, trainer.tokenizer, path, dtype, state))
    except Exception as error:  # native writers have errors of their own
        if not disk_refuses(error):
            raise
        raise RunError(
            f"The model cannot be written to {str(folder.model_path)!r} ({getattr(error, 'strerror', '') or error}): free space and "
            "resume; the last checkpoint is complete.",
            "output_dir",
        ) from error
    size = sum(file.stat().st_size for file in folder.model_path.rglob("*") if file.is_file())
    emit(ModelSaved(str(folder.model_path), size))
    return str(folder.model_path)


def _end(folder: RunFolder, emit: OnEvent, report: dict[str, Any], field: str) -> None:
    free_reserve(folder.path)
    if is_main_process():
        with contextlib.suppress(OSError):  # RunEnded has the report too
            try_twice(lambda: replace_json(folder.report_path, report))
        announce_end(folder, emit, report)
    emit(RunEnded(report["end"], report["reason"], report, field))
