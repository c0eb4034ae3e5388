"""Preview of a run: what the model will see, problems in the rows, whether it fits into memory, how long it takes.

Loads the tokenizer and the model's config.json, never its weights. The tokens are cached for the run that follows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from geko_engine.config.declaration import raise_problems
from geko_engine.config.run_config import RunConfig
from geko_engine.config.training_args import GEKOTrainingArgs
from geko_engine.data.excluded_rows import EXCLUDE, flagged_rows
from geko_engine.data.findings import Finding
from geko_engine.data.formats import Format, Segment, UnusableRow, column_names, recognise, restore_integers
from geko_engine.data.preparation import (
    PreparedDataset,
    load_raw_rows,
    prepare,
    refuse_unlearnable,
    render_rows,
    use_template,
)
from geko_engine.data.rendering import RenderedRows
from geko_engine.data.sources import load_rows
from geko_engine.data.tokenization import begin_ids
from geko_engine.exceptions import ConfigError, DataError, GekoError, Stopped
from geko_engine.launch import is_launched, process_count
from geko_engine.models.loading import load_config_and_tokenizer, longest_input
from geko_engine.models.precision import check_precision, set_thread_count
from geko_engine.preflight.checks import check_hub_access, preflight
from geko_engine.preflight.data_issues import issue_findings
from geko_engine.preflight.memory_estimate import Speed, available_memory, footprint, measure_speed, verdict
from geko_engine.reporting.events import (
    DataChecked,
    DataIssuesFound,
    DataPreviewed,
    Event,
    Message,
    PhaseChanged,
    RunEnded,
    StepEstimated,
)
from geko_engine.selection.epoch_plan import steps_per_epoch
from geko_engine.training.optimizer import require_optimizer
from geko_engine.training.step_size import few_steps

FIRST_ROWS = 200  # are read for the preview
SAMPLES_SHOWN = 20
CHARACTERS_SHOWN = 6000  # of one sample
ROWS_LISTED = 200  # row numbers of one finding
BINS = 24
TOO_LARGE = (
    "The data needs more memory than is free here: preview its first rows (data.sample_count), or split the file."
)
Emit = Callable[[Event], None]


def inspect(config: RunConfig, emit: Emit, should_stop: Callable[[], bool]) -> str:
    """Check everything that a run would use, without training. Emits exactly one RunEnded event.

    Args:
        config: of the run.
        emit: called with every event.
        should_stop: called often; True ends the preview as "stopped".

    Returns:
        "complete", "stopped" or "failed".
    """
    end, reason, field = "complete", "Everything was checked.", ""
    try:
        _inspect(config, emit, should_stop)
    except Stopped:
        end, reason = "stopped", "Stopped by user."
    except GekoError as error:
        end, reason, field = "failed", str(error), error.problems[0][0]
    except MemoryError:
        end, reason, field = "failed", TOO_LARGE, "data.train"
    except Exception as error:
        emit(RunEnded("failed", f"Unexpected error ({type(error).__name__}: {error}).", {}))
        raise
    emit(RunEnded(end, reason, {}, field))
    return end


def _inspect(config: RunConfig, emit: Emit, should_stop: Callable[[], bool]) -> None:
    problems = preflight(config)
    if len(problems) == 1:
        raise ConfigError(problems[0][1], problems[0][0])  # the message of one problem does not repeat its field
    raise_problems(problems)
    check_precision(config.training)
    require_optimizer(config.training)
    check_hub_access(config, should_stop)
    emit(PhaseChanged("starting", f"tokenizer of {config.model.name}"))
    model_config, tokenizer = load_config_and_tokenizer(config.model, should_stop=should_stop)
    emit(preview(config, tokenizer, emit))
    rows = load_raw_rows(config, emit, should_stop)
    rendered = render_rows(config, rows, tokenizer, emit)
    refuse_unlearnable(config, rendered["training"], longest_input(model_config))
    prepared = prepare(config, rendered, longest_input(model_config), emit, should_stop)
    for part in prepared:
        emit(checked(part))
    emit(PhaseChanged("scanning", "memory and time"))
    found = estimate(config, model_config, prepared[0].data.lengths, prepared[0].data.targets)
    emit(found or Message("Memory and time cannot be estimated for this architecture.", "warning"))
    if sentence := few_steps(config.training, len(prepared[0].data), _processes(config.training)):
        emit(Message(sentence, "warning"))
    emit(PhaseChanged("checking", "label errors, duplicates and personal data"))
    emit(DataIssuesFound(listed(issue_findings(prepared, should_stop))))


def preview(config: RunConfig, tokenizer: Any, emit: Emit) -> DataPreviewed:
    """The first samples as the model will see them, from the first rows only.

    Args:
        config: of the run.
        tokenizer: gets a chat template if it has none and the data needs one.
        emit: called with a message about that.

    Raises:
        DataError: if none of the first rows can be rendered.
    """
    count = min(FIRST_ROWS, config.data.sample_count or FIRST_ROWS)
    loaded = load_rows(replace(config.data, sample_count=count))
    rows, _ = restore_integers(loaded, loaded.origin.names.starts)
    format = recognise(rows, config.data, tokenizer)
    use_template(format, tokenizer, emit, config.data.chat_template)
    shown: list[list[Segment]] = []
    reasons: list[str] = []
    left_out = flagged_rows(config.data, EXCLUDE)
    rendered = RenderedRows(rows, format, tokenizer)
    for number in [number for number in range(len(rows)) if number not in left_out] or range(len(rows)):
        try:
            samples = rendered[number]
        except UnusableRow as reason:
            reasons.append(str(reason))
            continue
        shown += [_with_ends(sample.segments, format, tokenizer) for sample in samples]
        if len(shown) >= SAMPLES_SHOWN:
            break
    if not shown:
        which = "The only row cannot" if len(rows) == 1 else f"None of the first {len(rows)} rows can"
        raise DataError(f"{which} be used: {reasons[0]}.", "data.train")
    return DataPreviewed(column_names(rows), format.sentence, shown[:SAMPLES_SHOWN])


def _with_ends(pieces: list[Segment], format: Format, tokenizer: Any) -> list[Segment]:
    """The pieces with the special tokens that stand around them in training, as text."""
    text = "".join(piece for piece, _ in pieces)
    begin, end = tokenizer.decode(begin_ids(tokenizer)), tokenizer.eos_token or ""
    before = [(begin, False)] if begin and not text.startswith(begin) else []
    after = [(end, True)] if end and not format.uses_chat_template and not text.endswith(end) else []
    return [*before, *_shortened(pieces), *after]


def _shortened(pieces: list[Segment]) -> list[Segment]:
    left = CHARACTERS_SHOWN
    kept: list[Segment] = []
    for text, learnt in pieces:
        if left > 0:
            kept.append((text if len(text) <= left else text[:left] + " …", learnt))
        left -= len(text)
    return kept


def checked(part: PreparedDataset) -> DataChecked:
    """The event that summarizes one dataset."""
    data = part.data
    return DataChecked(
        part.name,
        part.source,
        part.row_count,
        len(data),
        int(data.lengths.sum()),
        int(data.targets.sum()),
        int(data.lengths.max()),
        histogram(data.lengths),
        listed(part.findings),
    )


def listed(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """Findings as an event holds them: of many rows only the first ones."""
    return [
        {"kind": f.kind, "count": len(f.rows), "rows": f.rows[:ROWS_LISTED], "sentence": f.sentence} for f in findings
    ]


def histogram(lengths: NDArray[Any]) -> list[tuple[int, int]]:
    """Histogram of lengths as (largest length of the bin, count), with bins of equal width, shortest first.

    Args:
        lengths: tokens of each sample, [n].
    """
    width = max(1, -(-int(lengths.max()) // BINS))
    bins = np.bincount((lengths - 1) // width)
    return [((index + 1) * width, int(count)) for index, count in enumerate(bins)]


def estimate(
    config: RunConfig, model_config: Any, lengths: NDArray[Any], targets: NDArray[Any]
) -> StepEstimated | None:
    """Memory of the largest step and time of the run, or None if the architecture does not run on fake tensors.

    Args:
        lengths, targets: tokens and target tokens of each sample, [count].

    Raises:
        GekoError: for what the user can solve, such as a LoRA target that does not exist.
    """
    args = config.training
    processes = _processes(args)
    budget = args.max_tokens_per_batch
    together = max(1, budget // int(lengths.max())) if budget else args.batch_size
    longest = np.argsort(lengths)[::-1][:together]  # the first step of a run trains on these
    try:
        found = footprint(config, model_config, len(longest), int(lengths[longest].max()), int(targets[longest].sum()))
        found = found.shared_out(processes) if args.fsdp != "none" else found
    except GekoError:
        raise
    except Exception:  # noqa: BLE001 - an architecture may do what fake tensors cannot
        return None
    per_epoch = steps_per_epoch(len(lengths), args.batch_size * args.gradient_accumulation_steps * processes)
    steps = args.planned_steps(per_epoch)
    passes, tokens = steps * args.gradient_accumulation_steps, steps * int(lengths.sum()) // (per_epoch * processes)
    if budget:
        passes = max(steps, tokens // budget)
    dtype = torch.bfloat16 if args.bf16 else torch.float16 if args.fp16 else torch.float32
    speed = _speed(found.parameters, model_config.get_text_config().hidden_size, dtype)
    free, total = available_memory()
    word, sentence = verdict(found, free)
    return StepEstimated(
        found.parameters,
        found.trainable,
        found.parts(),
        found.peak,
        free,
        total,
        steps,
        found.seconds(tokens, passes, speed),
        word,
        sentence,
    )


def _processes(args: GEKOTrainingArgs) -> int:
    return process_count() if is_launched() else args.process_count(torch.cuda.device_count)


def _speed(parameters: int, hidden_size: int, dtype: torch.dtype) -> Speed:
    """Speed of this machine with the number of threads that the run would use."""
    threads = torch.get_num_threads()
    set_thread_count(parameters)
    try:
        return measure_speed(hidden_size, dtype)
    finally:
        torch.set_num_threads(threads)
