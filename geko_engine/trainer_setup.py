"""A run's settings -> its trainer: rows read and tokenized, model loaded, and what listens to the training attached."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from geko_engine.config.run_config import RunConfig
from geko_engine.data.preparation import (
    PreparedDataset,
    learnt_end,
    load_raw_rows,
    prepare,
    refuse_unlearnable,
    render_rows,
    report_download,
)
from geko_engine.data.retention import retention_samples
from geko_engine.inference.examples import examples_of_rows
from geko_engine.inference.progress_answers import ProgressAnswers
from geko_engine.launch import is_main_process, process_count
from geko_engine.models.loading import load_config_and_tokenizer, load_model_and_tokenizer, longest_input
from geko_engine.models.lora import lora_config_for
from geko_engine.models.precision import check_precision, set_thread_count, weights_dtype
from geko_engine.models.saving import set_end_token
from geko_engine.processes import first_process_first
from geko_engine.reporting.events import Event, Message, PhaseChanged
from geko_engine.runs import evaluation_scores
from geko_engine.runs.folder import RunFolder
from geko_engine.runs.issue_check import listed_ids
from geko_engine.runs.sample_record_writer import (
    SampleRecordWriter,
    write_applied_corrections,
    write_held_out_rows,
    write_sample_texts_once,
)
from geko_engine.training.optimizer import require_optimizer
from geko_engine.training.step_size import few_steps
from geko_engine.training.trainer import GEKOTrainer

MEGABYTE = 1_000_000
END_OF_ADAPTER = (
    "The adapter learns to end an answer with {end}, where generation with the base model's own settings does not stop: "
    "pass eos_token_id={number} to generate."
)
DORA_NEEDS_PEFT = (
    "transformers' from_pretrained leaves out the lengths that DoRA learns: load the adapter with "
    "peft.AutoPeftModelForCausalLM."
)
OnEvent = Callable[[Event], None]
ShouldStop = Callable[[], bool]


def prepare_trainer(
    folder: RunFolder, config: RunConfig, emit: OnEvent, stop: ShouldStop
) -> tuple[GEKOTrainer, SampleRecordWriter, Any]:
    """(trainer, what writes its sample record, dtype that the base model's files have) of the run.

    Raises:
        GekoError: at the field where the way out is. Stopped: when `stop` says so.
    """
    check_precision(config.training)  # before anything is downloaded
    require_optimizer(config.training)
    rows = load_raw_rows(config, emit, stop)  # first: a wrong split is reported before a large model is downloaded
    emit(PhaseChanged("downloading", f"model {config.model.name}"))
    settings, tokenizer = load_config_and_tokenizer(config.model, should_stop=stop)
    rendered = render_rows(config, rows, tokenizer, emit)
    refuse_unlearnable(config, rendered["training"], longest_input(settings))
    model, lora = _load_model(config, emit, stop)
    longest = longest_input(model.config)
    with first_process_first(stop):
        prepared = prepare(config, rendered, longest, emit, stop)
    if is_main_process():
        write_held_out_rows(folder, prepared, emit)
        write_applied_corrections(folder, prepared, emit)
        write_sample_texts_once(folder, prepared[0], emit, stop)
    _set_end_token(model, tokenizer, prepared[0], lora, emit)
    if lora is not None and config.lora.use_dora:
        emit(Message(DORA_NEEDS_PEFT, "warning"))
    for part in prepared:
        for finding in part.findings:
            emit(Message(f"{part.name.capitalize()} data: {finding.sentence}", "warning"))
    if sentence := few_steps(config.training, len(prepared[0].data), process_count()):
        emit(Message(sentence, "warning"))
    trainer = GEKOTrainer(
        model,
        prepared[0].data,
        tokenizer,
        prepared[1].data if len(prepared) > 1 else None,
        config.geko,
        dataclasses.replace(config.training, output_dir=str(folder.checkpoints_path)),
        lora,
        on_event=emit,
        should_stop=stop,
        model_name=config.model.name,
    )
    record_writer = _listen_for_records(trainer, folder, emit)
    trainer.evaluator.general_samples = retention_samples(config, tokenizer, longest, stop)
    _listen_for_answers(trainer, tokenizer, config, prepared, emit, stop)
    trainer.log_position = folder.last_seq
    trainer.scans.listed = lambda: listed_ids(folder, trainer.states.count)
    trainer.states.never_freeze[:] = prepared[0].never_freeze
    return trainer, record_writer, settings.dtype if config.model.dtype == "auto" else None


def _load_model(config: RunConfig, emit: OnEvent, stop: ShouldStop) -> tuple[Any, Any]:
    """(the base model, or the model with the adapter that is trained on; the LoraConfig of a new adapter, or None)."""
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
    # May be refused: before rows are tokenized.
    lora = None if _has_adapter(model) else lora_config_for(config.lora, model)
    if lora is not None:
        lora.revision = config.model.revision  # of the base model, for whoever loads the adapter
    set_thread_count(sum(p.numel() for p in model.parameters()))
    return model, lora


def _has_adapter(model: Any) -> bool:
    """Whether the model is named by its adapter, which is trained on."""
    return hasattr(model, "peft_config")


def _set_end_token(model: Any, tokenizer: Any, training: PreparedDataset, lora: Any, emit: OnEvent) -> None:
    """Let generation stop where the model learns that an answer ends; an adapter cannot say so itself."""
    end = learnt_end(training.rendered.format, tokenizer)
    if set_end_token(model, tokenizer, end) and (_has_adapter(model) or lora is not None):
        emit(Message(END_OF_ADAPTER.format(end=end, number=tokenizer.eos_token_id), "warning"))


def _listen_for_records(trainer: GEKOTrainer, folder: RunFolder, emit: OnEvent) -> SampleRecordWriter:
    """Write the sample record after every epoch."""
    writer = SampleRecordWriter(
        folder, trainer.states.save, trainer.history.save, emit, lambda: _save_evaluation(trainer)
    )
    trainer.listeners.append(writer)
    return writer


def _save_evaluation(trainer: GEKOTrainer) -> Callable[[Path], None] | None:
    """What writes the scores of the last evaluation to a file; None while there was none."""
    found, samples = trainer.evaluator.last, trainer.eval_samples
    if found is None or samples is None:
        return None
    values = {name: getattr(found, name) for name in ("loss_sum", "targets", "correct")}
    return lambda path: evaluation_scores.save(path, digest=samples.digests, step=trainer.progress.step, **values)


def _listen_for_answers(
    trainer: GEKOTrainer,
    tokenizer: Any,
    config: RunConfig,
    prepared: list[PreparedDataset],
    emit: OnEvent,
    stop: ShouldStop,
) -> None:
    """Let the model answer prompts before the training and after each epoch, where it can and where that is wanted."""
    args = config.training
    own = [line.strip() for line in args.answer_prompts.splitlines() if line.strip()]
    if trainer.engine.is_sharded or not hasattr(trainer.model, "generate") or not (args.answers_per_epoch or own):
        return
    part = prepared[-1]  # the evaluation data where there is some
    examples = examples_of_rows(part.rendered, dict.fromkeys(part.data.rows.tolist()), args.answers_per_epoch)

    @contextmanager
    def as_delivered() -> Iterator[None]:
        with trainer.engine.accelerator.autocast(), trainer.ending.weights(trainer.progress):
            yield

    answers = ProgressAnswers(trainer.model, tokenizer, examples, own, part.rendered.format, emit, stop, as_delivered)
    if answers.left_out:
        emit(Message(f"{answers.left_out} of the prompts to answer fill the model's whole input and are left out."))
    trainer.listeners.append(answers)
    trainer.at_end.append(answers.at_end)
