"""The model on its device and in its processes: batches forward and backward, weights updated. Knows no rule and no record.

One process or several (`accelerate launch`): every process holds the same plan, takes its share of each micro-batch,
and gets back the scores of all, so that the record is the same everywhere.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from accelerate.state import AcceleratorState
from accelerate.utils import gather_object, set_seed
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import pad
from transformers.integrations.neftune import activate_neftune

from geko_engine.config.training_args import GEKOTrainingArgs
from geko_engine.data.batches import NO_LIMIT, SAMPLE_WEIGHTS, Collator, to_device
from geko_engine.data.packed_batches import PackedCollator, widths
from geko_engine.models.placement import require_saveable, require_trainable_placement
from geko_engine.models.precision import check_precision, compile_model, enable_checkpointing, held_in
from geko_engine.models.quantization import count_parameters, is_quantized
from geko_engine.models.saving import frozen_fingerprint, not_finite, require_finite, whole_state
from geko_engine.models.sharding import reshard
from geko_engine.scoring.evaluation import SCORES, SampleScores, combine, score_samples, score_table
from geko_engine.scoring.own_loss import probe, settle
from geko_engine.scoring.sample_scores import Scorer
from geko_engine.training.flops import FlopCount, backward_cost
from geko_engine.training.micro_batches import MicroBatches
from geko_engine.training.parallel import is_sharded, make_accelerator, prepare, synchronized, without_others

COMPILED_LENGTHS = 64  # a compiled model gets batches whose length is a multiple of this


class _Scored(nn.Module):
    """The module given to accelerate: its output is small, so no logits are ever copied to float32."""

    def __init__(self, model: nn.Module, scorer: Scorer) -> None:
        super().__init__()
        self.model, self.scorer = model, scorer

    def forward(self, batch: dict[str, Tensor], weights: Tensor | None = None, *, own_loss: bool = False) -> Any:
        return self.scorer.own_loss(self.model, batch) if own_loss else self.scorer(self.model, batch, weights)


class TrainingEngine:
    """Model, optimizer, precision and processes of a run.

    Attributes:
        rank, processes: which of how many processes this is. is_main: whether it is the one that writes.
        is_sharded: whether each process holds a part of the weights only (FSDP).
        model: as given (with adapters), never wrapped. step_size: samples of one optimizer step in all processes.
        batch_size: of them, samples of one forward pass; 0 where passes are filled by tokens. micro_batches: how a step is
            split into these. padded: makes padded batches. collate: makes those of the run, padded or packed. is_compiled:
            whether the model is compiled. is_half: whether it computes in half precision.
    """

    def __init__(
        self, model: nn.Module, scorer: Scorer, args: GEKOTrainingArgs, pad_token_id: int, warn: Callable[[str], None]
    ) -> None:
        self.model, self.args = model, args
        self.precision = check_precision(args)
        require_trainable_placement(model)
        require_saveable(model)
        self.frozen_weights = frozen_fingerprint(model)
        self.accelerator = make_accelerator(self.precision)
        self.rank, self.processes = self.accelerator.process_index, self.accelerator.num_processes
        self.is_main, self.is_sharded = self.accelerator.is_main_process, is_sharded(args, self.processes)
        for sentence in without_others(args, self.processes):
            warn(sentence)
        self.backward_cost = 0.0  # the forward pass being 1; counted in the first micro-batch
        self.gradient_norm: float | None = None  # of the last update, before clipping; None where it was not finite
        self.step_size = args.batch_size * args.gradient_accumulation_steps * self.processes
        # By tokens, a step of fewer samples is split into fewer passes anyway.
        self.batch_size = 0 if args.max_tokens_per_batch else args.batch_size * self.processes
        if args.gradient_checkpointing:
            enable_checkpointing(model)
        if args.neftune_noise_alpha:
            activate_neftune(model, args.neftune_noise_alpha)
        model_config: Any = getattr(model, "config", None)
        self.is_compiled = args.compile_model and compile_model(model, warn)
        limit = getattr(model_config, "max_position_embeddings", None) or NO_LIMIT
        self.padded = Collator(pad_token_id, COMPILED_LENGTHS if self.is_compiled else 1, limit)
        self.collate: Collator | PackedCollator = self.padded
        self.micro_batches = MicroBatches(
            args.batch_size, args.max_tokens_per_batch, self.processes, self.padded.multiple
        )
        self.scored = _Scored(model, scorer)
        self.optimizer = prepare(self.accelerator, self.scored, model, args)
        self._synchronized: Any = None  # what is called in training; made with the first batch
        self.device = self.accelerator.device
        if self.processes > 1:
            set_seed(args.seed + self.rank)  # or every process would draw the same dropout masks

    def pack(self) -> None:
        """From now on, put the samples of a batch one behind the other in one row."""
        self.collate, self.micro_batches = PackedCollator(), replace(self.micro_batches, packed=True)

    @property
    def is_packed(self) -> bool:
        """Whether batches have no padding."""
        return self.micro_batches.packed

    @property
    def is_half(self) -> bool:
        """Whether the model computes in half precision."""
        return self.precision != "no" or is_quantized(self.model) or held_in(self.model) in ("bfloat16", "float16")

    # ------------------------------------------------------------ training
    def backward(self, micro: dict[str, Tensor], targets: int, *, last: bool) -> Tensor:
        """One micro-batch forward and backward; returns its scores, [SCORES, b], on the device. Does not wait for it.

        Args:
            micro: a batch of the loader, with the loss weights of its samples.
            targets: target tokens of the whole step, all processes together: what the loss is divided by.
            last: whether the step's gradients are complete with this.
        """
        batch = to_device(micro, self.device)
        weight = batch.pop(SAMPLE_WEIGHTS)
        if self._synchronized is None:
            self._synchronized = self._in_all_processes(batch, weight)
        with (
            contextlib.nullcontext() if last else self.accelerator.no_sync(self._synchronized),
            contextlib.nullcontext() if self.backward_cost or self.is_compiled else FlopCount() as count,
        ):
            scores = self._synchronized(batch, weight)
            if count:
                count.in_backward = True
            # Gradients are averaged over the processes; the sum of what each of them saw is wanted.
            self.accelerator.backward(scores.objective * (self.processes / max(1, targets)))
        if not self.backward_cost:
            self.backward_cost = self._cost(count)
        return score_table(scores, widths(batch))

    def _in_all_processes(self, batch: dict[str, Tensor], weight: Tensor) -> nn.Module:
        if self.processes == 1 or self.is_sharded:
            return self.scored
        trial = lambda: self.accelerator.backward(self.scored(batch, weight).objective)  # noqa: E731
        return synchronized(self.accelerator, self.scored, self.model, trial)

    def _cost(self, count: FlopCount | None) -> float:
        known = count is not None and not is_quantized(self.model)  # whose kernels are not known to the counter
        forward, backward = (count.forward, count.backward) if count and known else (0, 0)
        total, trainable = count_parameters(self.model)
        recomputes = self.args.gradient_checkpointing
        return backward_cost(forward, backward, trainable / max(1, total), recomputes=recomputes)

    def update(
        self, learning_rate: float, tables: Sequence[Tensor], lengths: NDArray[Any]
    ) -> tuple[NDArray[Any], bool]:
        """Clip, one optimizer step, gradients cleared.

        Here a step waits for the device, once: whether the gradient is finite must be known before the weights move, and
        the scores of all its passes come to the host with it. The optimizer's own work then runs beside the bookkeeping.

        Args:
            tables: what `backward` returned, pass by pass. lengths: tokens of each sample of the step [n].

        Returns:
            The scores of all samples of the step, in the order of the plan [SCORES, n], and whether the weights moved:
            not where the gradient is not finite. With float16 a gradient that overflows is ordinary: the scaler skips
            the step itself and lowers its scale.
        """
        norm, own = self._clip(), torch.cat(list(tables), 1)
        table = own if self.processes == 1 else self._gathered(own, lengths)
        # A norm of None is that of a wrapper that keeps it to itself.
        known = table.flatten() if norm is None else torch.cat([table.flatten(), norm.reshape(1)])
        host = known.cpu().double().numpy()
        length = math.nan if norm is None else float(host[-1])
        self.gradient_norm = length if math.isfinite(length) else None
        moves = norm is None or self.gradient_norm is not None or self.accelerator.scaler is not None
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        if moves:
            self.optimizer.step()
        self.optimizer.zero_grad()
        return self._in_plan_order(host[: table.numel()].reshape(table.shape), lengths), moves

    def _clip(self) -> Tensor | None:
        """Clip the gradient where asked for; its norm over all processes, on the device."""
        if self.args.max_grad_norm:
            norm: Any = self.accelerator.clip_grad_norm_(self.model.parameters(), self.args.max_grad_norm)
        else:
            self.accelerator.unscale_gradients()
            norm = torch.nn.utils.get_total_norm([p.grad for p in self.model.parameters() if p.grad is not None])
        found: Tensor | None = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
        return found

    def _gathered(self, own: Tensor, lengths: NDArray[Any]) -> Tensor:
        """The tables of all processes, [processes, SCORES, longest]; a process's own lies at the front of its row."""
        shares = [self.micro_batches.shares(lengths, rank) for rank in range(self.processes)]
        longest = max(sum(len(positions) for positions, _ in share) for share in shares)
        gathered: Tensor = self.accelerator.gather(pad(own, (0, longest - own.shape[1]))[None])
        return gathered

    def _in_plan_order(self, table: NDArray[Any], lengths: NDArray[Any]) -> NDArray[Any]:
        """[SCORES, n] from the tables of all processes; what stood in for an empty share is left out."""
        if self.processes == 1:
            return table
        ordered = np.empty((SCORES, len(lengths)))
        for rank in range(self.processes):
            start = 0
            for positions, real in self.micro_batches.shares(lengths, rank):
                if real:
                    ordered[:, positions] = table[rank, :, start : start + len(positions)]
                start += len(positions)
        return ordered

    def any(self, flag: bool) -> bool:
        """Whether `flag` is set in any process; every process must ask."""
        if self.processes == 1:
            return flag
        total = self.accelerator.reduce(torch.tensor(int(flag), device=self.device), "sum")
        return int(total) > 0

    # ------------------------------------------------------------ without training
    def settle_loss(self, samples: Any) -> str:
        """Train with the model's own loss where it is not GEKO's; returns the sentence for the log, or ""."""
        few = probe(samples)
        if not few:
            return ""
        return settle(self.scored, self.scored.scorer, to_device(self.padded(few), self.device), half=self.is_half)

    def score_samples(
        self,
        samples: Any,
        ids: NDArray[Any],
        should_stop: Callable[[], bool],
        on_progress: Callable[[int, int], None],
        *,
        with_tokens: bool = False,
    ) -> SampleScores:
        """Score `ids` without gradient, each process a share of the batches. Raises Stopped."""
        found = score_samples(
            self.scored,
            samples,
            ids,
            self.collate,
            batch_size=self.args.batch_size,
            device=self.device,
            should_stop=lambda: self.any(should_stop()),
            on_progress=on_progress,
            rank=self.rank,
            processes=self.processes,
            with_tokens=with_tokens,
            together=self.is_sharded,
        )
        return found if self.processes == 1 else combine(gather_object([found]))

    def gather(self, value: Any) -> list[Any]:
        """The `value` of every process, by rank."""
        return gather_object([value]) if self.processes > 1 else [value]

    def whole_state(self) -> dict[str, Tensor] | None:
        """The weights to save, whole in the first process, of a model that is shared out; None of any other.

        Every process must ask. Raises RunError when a trainable weight is not finite.
        """
        if not self.is_sharded:
            return None
        reshard(self.scored)
        require_finite(next(filter(None, self.gather(not_finite(self.model))), ""))
        return whole_state(self.model, keep=self.is_main)

    def end(self) -> None:
        """After the last word of the run: waits for all processes and lets go of their group."""
        if self.processes > 1:
            self.accelerator.end_training()
            AcceleratorState._reset_state(reset_partial_state=True)  # the next run of this process may be alone

    def wait(self) -> None:
        """Until every process has come here."""
        self.accelerator.wait_for_everyone()
