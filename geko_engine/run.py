"""One whole run from its folder: load, tokenise, train, save, report. Shared by command line and page; knows no screen."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from geko_engine.config.declaration import raise_problems
from geko_engine.config.run_config import RunConfig
from geko_engine.data.excluded_rows import read_row_flags
from geko_engine.exceptions import GekoError, RunError, Stopped
from geko_engine.launch import is_main_process, process_count
from geko_engine.preflight.checks import check_hub_access, preflight
from geko_engine.reporting.events import Event, Message, ModelSaved, PhaseChanged, RunEnded
from geko_engine.runs.folder import RunFolder
from geko_engine.storage.atomic_files import replace_json
from geko_engine.storage.disk_space import free_reserve, full_sentence, is_full

OUT_OF_MEMORY = re.compile("out of memory|can't allocate memory|No executable batch size")  # GPU, CPU, accelerate
MEGABYTE = 1_000_000
WRITING = ".model.writing"  # the folder that a model is written to before it is whole
STOPPED_EARLY = {"end": "stopped", "reason": "You asked for a stop before the training began.", "steps": 0}
OnEvent = Callable[[Event], None]
ShouldStop = Callable[[], bool]


def share_folder(folder: RunFolder | None) -> RunFolder:
    """The run folder of the first process, in all of them."""
    import torch
    from accelerate import PartialState
    from accelerate.utils import broadcast_object_list

    PartialState(cpu=not torch.cuda.is_available())  # without a GPU it must be told so, or it sees one process
    paths = [str(folder.path) if folder else ""]
    return RunFolder(Path(broadcast_object_list(paths)[0]))


def run(
    folder: RunFolder, *, on_event: OnEvent | None = None, should_stop: ShouldStop | None = None, resume: bool = False
) -> dict[str, Any]:
    """Run `folder` to its end and return the report, which is also written to report.json.

    Always emits exactly one RunEnded. What the user can solve ends as "failed" with its sentence; anything else
    is a bug: it ends as "failed" too and is raised.

    Args:
        resume: go on from the newest checkpoint (from the beginning when there is none yet).
    """
    emit, stop = on_event or (lambda event: None), should_stop or (lambda: False)
    began = time.monotonic()
    try:
        report = _run(folder, emit, stop, resume)
    except GekoError as error:
        text, field = _full(folder) if is_full(error) else (str(error), error.problems[0][0])
        report = _failure(text, began)
        _end(folder, emit, report, field)
    except Exception as error:
        text, field = _full(folder) if is_full(error) else _unexpected(error)
        report = _failure(text, began)
        _end(folder, emit, report, field)
        if not field:
            raise
    else:
        _end(folder, emit, report, "")
    return report


def _run(folder: RunFolder, emit: OnEvent, stop: ShouldStop, resume: bool) -> dict[str, Any]:
    config = folder.config_with_saved_flags(on_renamed=lambda sentence: emit(Message(sentence, "warning")))
    raise_problems(preflight(config))
    if config.data.row_flags and is_main_process():
        replace_json(folder.used_flags_path, {"rows": read_row_flags(config.data.row_flags)})
    try:
        check_hub_access(config, stop)
    except Stopped:
        return dict(STOPPED_EARLY)
    if stop():  # before seconds are spent on torch
        return dict(STOPPED_EARLY)
    emit(PhaseChanged("starting", "loading torch"))
    from transformers.utils import logging  # torch comes in here, after all that can fail without it

    logging.disable_progress_bar()  # our events tell what takes the time
    if config.training.auto_find_batch_size and process_count() == 1:  # one process alone cannot change a step
        return _with_smaller_batches(folder, config, emit, stop, resume)
    return _train(folder, config, emit, stop, resume)


def _with_smaller_batches(
    folder: RunFolder, config: RunConfig, emit: OnEvent, stop: ShouldStop, resume: bool
) -> dict[str, Any]:
    """Train; when memory runs out, go on from the newest checkpoint with smaller batches and as many samples a step."""
    from accelerate.utils import find_executable_batch_size

    sizes = batch_sizes(config.training.batch_size, config.training.gradient_accumulation_steps)
    first = next(sizes)

    def smaller() -> int:
        size, steps = next(sizes, (0, 0))
        if size:
            emit(
                Message(f"The memory ran out: going on with batch size {size}, {steps} accumulation steps.", "warning")
            )
        return size

    @find_executable_batch_size(starting_batch_size=first[0], reduce_batch_size_fn=smaller)
    def attempt(batch_size: int) -> dict[str, Any]:
        steps = first[0] * first[1] // batch_size
        args = dataclasses.replace(config.training, batch_size=batch_size, gradient_accumulation_steps=steps)
        again = resume or batch_size < first[0]
        return _train(folder, dataclasses.replace(config, training=args), emit, stop, again)

    report: dict[str, Any] = attempt()
    return report


def batch_sizes(batch_size: int, accumulation_steps: int) -> Iterator[tuple[int, int]]:
    """(batch size, accumulation steps) with the same samples in a step, each batch at most half of the one before."""
    step = batch_size * accumulation_steps
    while batch_size > 0:
        yield batch_size, step // batch_size
        batch_size = next((size for size in range(batch_size // 2, 0, -1) if step % size == 0), 0)


def _train(folder: RunFolder, config: RunConfig, emit: OnEvent, stop: ShouldStop, resume: bool) -> dict[str, Any]:
    try:
        trainer = _prepare(folder, config, emit, stop)
        checkpoint = _checkpoint_to_resume(folder, config, emit) if resume else _given_checkpoint(config)
        if checkpoint is not None:
            emit(PhaseChanged("starting", f"resuming from {checkpoint.name}"))
            trainer.load_checkpoint(checkpoint)
    except Stopped:
        return dict(STOPPED_EARLY)
    report: dict[str, Any] = trainer.train()
    if report["steps"] == 0 and report["end"] == "complete":
        raise RunError("Nothing was trained: the plan held no sample.")
    if trainer.engine.is_main:
        trainer.on_event.keep()
        if report["end"] == "complete" or config.training.save_at_end:
            report["model_path"] = _save_model(trainer, folder, emit)
    trainer.engine.end()
    return report


def _given_checkpoint(config: RunConfig) -> Path | None:
    given = config.training.resume_from_checkpoint
    return Path(given).expanduser() if given else None


def _checkpoint_to_resume(folder: RunFolder, config: RunConfig, emit: OnEvent) -> Path | None:
    """The newest whole checkpoint of the run, else the one that it was started from; damaged ones are named."""
    from geko_engine.training.checkpoint_files import newest_whole

    checkpoint, problems = newest_whole(folder.checkpoints_path)
    for problem in problems:
        emit(Message(problem.replace("resume from another one.", "it is passed over."), "warning"))
    return checkpoint or _given_checkpoint(config)


def _prepare(folder: RunFolder, config: RunConfig, emit: OnEvent, stop: ShouldStop) -> Any:
    from geko_engine.data.preparation import load_raw_rows, prepare, refuse_unlearnable, render_rows, report_download
    from geko_engine.models.loading import load_config_and_tokenizer, load_model_and_tokenizer, longest_input
    from geko_engine.models.lora import lora_config_for
    from geko_engine.models.precision import set_thread_count
    from geko_engine.runs.sample_record_writer import RecordKeeper, keep_rows
    from geko_engine.training.trainer import GEKOTrainer

    rows = load_raw_rows(config, emit, stop)  # first: a wrong split is told before a large model is downloaded
    emit(PhaseChanged("downloading", f"model {config.model.name}"))
    settings, tokenizer = load_config_and_tokenizer(config.model, should_stop=stop)
    rendered = render_rows(config, rows, tokenizer, emit)
    refuse_unlearnable(config, rendered["training"], longest_input(settings))
    arrived = functools.partial(report_download, emit, f"model {config.model.name}, megabytes", MEGABYTE)
    model, _ = load_model_and_tokenizer(config.model, config.training, should_stop=stop, on_progress=arrived)
    lora = lora_config_for(config.lora, model)  # refused before the rows are tokenised
    set_thread_count(sum(p.numel() for p in model.parameters()))
    prepared = prepare(config, rendered, longest_input(model.config), emit, stop)
    if is_main_process():
        keep_rows(folder, prepared[0], emit, stop)
    for part in prepared:
        for finding in part.findings:
            emit(Message(f"{part.name.capitalize()} data: {finding.sentence}", "warning"))
    args = dataclasses.replace(config.training, output_dir=str(folder.checkpoints_path))
    trainer = GEKOTrainer(
        model,
        prepared[0].data,
        tokenizer,
        prepared[1].data if len(prepared) > 1 else None,
        config.geko,
        args,
        lora,
        on_event=emit,
        should_stop=stop,
        model_name=config.model.name,
    )
    trainer.on_event = RecordKeeper(folder, trainer, emit)
    trainer.states.never_freeze[:] = prepared[0].never_freeze
    return trainer


def _save_model(trainer: Any, folder: RunFolder, emit: OnEvent) -> str:
    """Write the model beside its final place and rename, so that model/ is whole or not there."""
    emit(PhaseChanged("saving", "model"))
    temporary = folder.path / WRITING
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        trainer.save_model(temporary)
        shutil.rmtree(folder.model_path, ignore_errors=True)
        temporary.replace(folder.model_path)
    except (OSError, SafetensorError) as error:
        raise RunError(
            f"The model cannot be written to {str(folder.model_path)!r} ({getattr(error, 'strerror', '') or error}): free space and "
            "resume; the last checkpoint is whole.",
            "output_dir",
        ) from error
    size = sum(file.stat().st_size for file in folder.model_path.rglob("*") if file.is_file())
    emit(ModelSaved(str(folder.model_path), size))
    return str(folder.model_path)


def _end(folder: RunFolder, emit: OnEvent, report: dict[str, Any], field: str) -> None:
    free_reserve(folder.path)
    if is_main_process():
        with contextlib.suppress(OSError):  # the event that follows holds it too
            replace_json(folder.report_path, report)
    emit(RunEnded(report["end"], report["reason"], report, field))


def _full(folder: RunFolder) -> tuple[str, str]:
    """(sentence, field) of a run that met a full disk; asked before anything is freed, so that it names what is left."""
    shutil.rmtree(folder.path / WRITING, ignore_errors=True)
    kept = folder.latest_checkpoint()
    way = f"it goes on from its checkpoint at step {kept.name.split('-')[-1]}" if kept else "it begins anew"
    return f"{full_sentence(folder.path.parent)} Then resume: {way}.", "output_dir"


def _failure(reason: str, began: float) -> dict[str, Any]:
    return {"end": "failed", "reason": reason, "seconds": time.monotonic() - began}


def _unexpected(error: Exception) -> tuple[str, str]:
    """(sentence, field) for an exception that is not of our family; running out of memory is the user's to solve."""
    if type(error).__name__ == "OutOfMemoryError" or isinstance(error, MemoryError) or OUT_OF_MEMORY.search(str(error)):
        return (
            "The memory ran out: halve the batch size and double gradient_accumulation_steps, shorten max_length, "
            "or switch on LoRA or gradient checkpointing.",
            "training.batch_size",
        )
    return f"An error that GEKO did not expect ({type(error).__name__}: {error}). Details are in worker.log.", ""
