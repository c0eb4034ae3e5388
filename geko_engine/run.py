"""One complete run from its folder: load, tokenize, train, save, report. Used by command line and page; knows no screen."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from geko_engine.config.declaration import raise_problems
from geko_engine.config.run_config import RunConfig
from geko_engine.config.training_args import GEKOTrainingArgs
from geko_engine.data.excluded_rows import read_row_flags
from geko_engine.exceptions import GekoError, RunError, Stopped, is_connection_lost, is_out_of_memory
from geko_engine.launch import Peers, is_main_process, process_count
from geko_engine.preflight.checks import check_hub_access, preflight
from geko_engine.processes import first_process_first, join_processes, start_processes
from geko_engine.reporting.events import Event, Message, ModelSaved, PhaseChanged, RunEnded
from geko_engine.runs.announcing import announce_end
from geko_engine.runs.disk_guard import CHECKPOINT, MODEL, DiskGuard
from geko_engine.runs.folder import RunFolder
from geko_engine.runs.lock import RunLock
from geko_engine.storage.atomic_files import replace_folder, replace_json, replace_text
from geko_engine.storage.disk_space import (
    disk_refuses,
    free_reserve,
    full_sentence,
    is_full,
    refused_sentence,
    try_twice,
)
from geko_engine.storage.user_paths import expand

MEGABYTE = 1_000_000
FEWEST_TOKENS = 16  # per batch: below that, each sample has one of its own anyway
END_OF_ADAPTER = (
    "The adapter learns to end an answer with {end}, where generation with the base model's own settings does not stop: "
    "pass eos_token_id={number} to generate."
)
DORA_NEEDS_PEFT = (
    "transformers' from_pretrained leaves out the lengths that DoRA learns: load the adapter with "
    "peft.AutoPeftModelForCausalLM."
)
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
            return end(*(_full(folder) if is_full(error) else (str(error), error.problems[0][0])))
        except Exception as error:
            known = peers.failure() or _lost_process(error, folder)
            text, field = known or (_full(folder) if is_full(error) else _unexpected(error, folder))
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


def smaller_batches(args: GEKOTrainingArgs) -> Iterator[tuple[GEKOTrainingArgs, str]]:
    """Yield `args` and then what needs ever less memory for the same samples a step, each with its words."""
    tokens = args.max_tokens_per_batch
    while tokens >= FEWEST_TOKENS:
        yield dataclasses.replace(args, max_tokens_per_batch=tokens), f"at most {tokens:,} tokens per batch"
        tokens //= 2
    if args.max_tokens_per_batch:
        return
    for size, steps in batch_sizes(args.batch_size, args.gradient_accumulation_steps):
        words = f"batch size {size} and {steps} accumulation steps"
        yield dataclasses.replace(args, batch_size=size, gradient_accumulation_steps=steps), words


def batch_sizes(batch_size: int, accumulation_steps: int) -> Iterator[tuple[int, int]]:
    """Yield (batch size, accumulation steps) with the same samples a step, each batch size at most half the last one.

    Args:
        batch_size, accumulation_steps: the first pair.
    """
    step = batch_size * accumulation_steps
    while batch_size > 0:
        yield batch_size, step // batch_size
        batch_size = next((size for size in range(batch_size // 2, 0, -1) if step % size == 0), 0)


def _train(
    folder: RunFolder, config: RunConfig, emit: OnEvent, stop: ShouldStop, resume: bool, peers: Peers
) -> dict[str, Any]:
    guard = DiskGuard(folder.path, emit, stop)
    checkpoint = _checkpoint_to_resume(folder, config, emit) if resume else _given_checkpoint(config)
    if checkpoint is not None and checkpoint.parent == folder.checkpoints_path:
        config = _with_same_steps(checkpoint, config, emit)
    try:
        trainer, record_writer, dtype = _prepare(folder, config, guard, stop)
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
    from geko_engine.training.step_size import in_words, split_step

    args, processes = config.training, process_count()
    samples = read_manifest(checkpoint, only=MANIFEST)["identity"]["samples_per_step"]
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


def _prepare(folder: RunFolder, config: RunConfig, emit: OnEvent, stop: ShouldStop) -> tuple[Any, Any, Any]:
    """(GEKOTrainer, SampleRecordWriter, dtype that the base model's files have) of the run."""
    from geko_engine.data.preparation import (
        learnt_end,
        load_raw_rows,
        prepare,
        refuse_unlearnable,
        render_rows,
        report_download,
    )
    from geko_engine.data.retention import retention_samples
    from geko_engine.models.loading import load_config_and_tokenizer, load_model_and_tokenizer, longest_input
    from geko_engine.models.lora import lora_config_for
    from geko_engine.models.precision import check_precision, set_thread_count, weights_dtype
    from geko_engine.models.saving import set_end_token
    from geko_engine.runs.issue_check import listed_ids
    from geko_engine.runs.sample_record_writer import (
        SampleRecordWriter,
        write_held_out_rows,
        write_sample_texts_once,
    )
    from geko_engine.training.optimizer import require_optimizer
    from geko_engine.training.trainer import GEKOTrainer

    check_precision(config.training)  # before anything is downloaded
    require_optimizer(config.training)
    rows = load_raw_rows(config, emit, stop)  # first: a wrong split is reported before a large model is downloaded
    emit(PhaseChanged("downloading", f"model {config.model.name}"))
    settings, tokenizer = load_config_and_tokenizer(config.model, should_stop=stop)
    rendered = render_rows(config, rows, tokenizer, emit)
    refuse_unlearnable(config, rendered["training"], longest_input(settings))
    report_bytes = functools.partial(report_download, emit, f"model {config.model.name}, megabytes", MEGABYTE)
    model, _ = load_model_and_tokenizer(
        config.model,
        config.training,
        dtype=weights_dtype(config),
        should_stop=stop,
        on_progress=report_bytes,
        train_adapter=config.lora.enabled,
        note=lambda sentence: emit(Message(sentence)),
    )
    continued = hasattr(model, "peft_config")  # the model is named by its adapter, which is trained on
    lora = None if continued else lora_config_for(config.lora, model)  # may be refused: before rows are tokenized
    if lora is not None:
        lora.revision = config.model.revision  # of the base model, for whoever loads the adapter
    set_thread_count(sum(p.numel() for p in model.parameters()))
    with first_process_first(stop):
        prepared = prepare(config, rendered, longest_input(model.config), emit, stop)
    if is_main_process():
        write_held_out_rows(folder, prepared, emit)
        write_sample_texts_once(folder, prepared[0], emit, stop)
    end = learnt_end(prepared[0].rendered.format, tokenizer)
    if set_end_token(model, tokenizer, end) and (continued or lora is not None):
        emit(Message(END_OF_ADAPTER.format(end=end, number=tokenizer.eos_token_id), "warning"))
    if lora is not None and config.lora.use_dora:
        emit(Message(DORA_NEEDS_PEFT, "warning"))
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
    record_writer = SampleRecordWriter(
        folder, trainer.states.save, trainer.history.save, emit, lambda: _save_evaluation(trainer)
    )
    trainer.listeners.append(record_writer)
    trainer.evaluator.general_samples = retention_samples(config, tokenizer, longest_input(model.config), stop)
    _listen_for_answers(trainer, tokenizer, config, prepared, emit, stop)
    trainer.log_position = folder.last_seq
    trainer.scans.listed = lambda: listed_ids(folder, trainer.states.count)
    trainer.states.never_freeze[:] = prepared[0].never_freeze
    dtype = settings.dtype if config.model.dtype == "auto" else None
    return trainer, record_writer, dtype


def _save_evaluation(trainer: Any) -> Callable[[Path], None] | None:
    """What writes the scores of the last evaluation to a file; None while there was none."""
    from geko_engine.runs import evaluation_scores

    found, samples = trainer.evaluator.last, trainer.eval_samples
    if found is None:
        return None
    values = {name: getattr(found, name) for name in ("loss_sum", "targets", "correct")}
    return lambda path: evaluation_scores.save(path, digest=samples.digests, step=trainer.progress.step, **values)


def _listen_for_answers(
    trainer: Any, tokenizer: Any, config: RunConfig, prepared: list[Any], emit: OnEvent, stop: ShouldStop
) -> None:
    """Let the model answer prompts before the training and after each epoch, where it can and where that is wanted."""
    from geko_engine.inference.examples import examples_of_rows
    from geko_engine.inference.progress_answers import ProgressAnswers

    args = config.training
    own = [line.strip() for line in args.answer_prompts.splitlines() if line.strip()]
    if trainer.engine.is_sharded or not hasattr(trainer.model, "generate") or not (args.answers_per_epoch or own):
        return
    part = prepared[-1]  # the evaluation data where there is some
    examples = examples_of_rows(part.rendered, dict.fromkeys(part.data.rows.tolist()), args.answers_per_epoch)
    answers = ProgressAnswers(
        trainer.model, tokenizer, examples, own, part.rendered.format, emit, stop, trainer.engine.accelerator.autocast
    )
    if answers.left_out:
        emit(Message(f"{answers.left_out} of the prompts to answer fill the model's whole input and are left out."))
    trainer.listeners.append(answers)


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


def _full(folder: RunFolder) -> tuple[str, str]:
    """(sentence, field) of a run that ended because the disk is full."""
    newest = folder.latest_checkpoint()
    start = f"from the checkpoint at step {newest.name.split('-')[-1]}" if newest else "from the beginning"
    return f"{full_sentence(folder.path.parent)} Then resume: the run continues {start}.", "output_dir"


def _lost_process(error: Exception, folder: RunFolder) -> tuple[str, str] | None:
    """(sentence, field) for an error that comes of another process being gone; None for any other."""
    if process_count() == 1 or not is_connection_lost(error):
        return None
    return (
        "Another process of this run, or its host, is gone: see its output there. Then start all of them again with "
        f"--resume {folder.path}. (The connection said: {str(error).strip().splitlines()[0][:300]})",
        "",
    )


def _unexpected(error: Exception, folder: RunFolder) -> tuple[str, str]:
    """(sentence, field) for any other exception. The user can solve a broken disk, and running out of memory."""
    if disk_refuses(error):
        return f"{refused_sentence(folder.path, error)} Then resume.", "output_dir"
    if is_out_of_memory(error):
        return (
            "Memory ran out: halve the batch size and double gradient_accumulation_steps, lower max_length, or switch on "
            "LoRA or gradient checkpointing.",
            "training.batch_size",
        )
    return f"Unexpected error ({type(error).__name__}: {error}). See worker.log for details.", ""
