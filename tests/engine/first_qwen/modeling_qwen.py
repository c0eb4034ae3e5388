"""A small decoder that brings its own code, with the first Qwen's layer names; copied beside its weights."""

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, scaled_dot_product_attention
from transformers import GenerationMixin, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput

from .configuration_qwen import QWenConfig


class QWenAttention(nn.Module):
    def __init__(self, config: QWenConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.c_attn = nn.Linear(config.hidden_size, 3 * config.hidden_size)
        self.c_proj = nn.Linear(config.hidden_size, config.hidden_size, bias=False)

    def forward(self, hidden: Tensor, allowed: Tensor) -> Tensor:
        rows, length, size = hidden.shape
        parts = self.c_attn(hidden).view(rows, length, 3, self.heads, size // self.heads).permute(2, 0, 3, 1, 4)
        mixed = scaled_dot_product_attention(parts[0], parts[1], parts[2], attn_mask=allowed)
        return self.c_proj(mixed.transpose(1, 2).reshape(rows, length, size))


class QWenBlock(nn.Module):
    def __init__(self, config: QWenConfig) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.RMSNorm(config.hidden_size), nn.RMSNorm(config.hidden_size)
        self.attn = QWenAttention(config)
        self.w1 = nn.Linear(config.hidden_size, 2 * config.hidden_size, bias=False)
        self.w2 = nn.Linear(2 * config.hidden_size, config.hidden_size, bias=False)

    def forward(self, hidden: Tensor, allowed: Tensor) -> Tensor:
        hidden = hidden + self.attn(self.ln_1(hidden), allowed)
        return hidden + self.w2(torch.nn.functional.silu(self.w1(self.ln_2(hidden))))


class QWenLMHeadModel(PreTrainedModel, GenerationMixin):
    config_class = QWenConfig

    def __init__(self, config: QWenConfig) -> None:
        super().__init__(config)
        self.wte = nn.Embedding(config.vocab_size, config.hidden_size)
        self.wpe = nn.Embedding(128, config.hidden_size)
        self.h = nn.ModuleList(QWenBlock(config) for _ in range(config.num_hidden_layers))
        self.ln_f = nn.RMSNorm(config.hidden_size)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.wte

    def get_output_embeddings(self) -> nn.Module:
        return self.lm_head

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, labels: Tensor | None = None, **_others: object
    ) -> CausalLMOutput:
        length = input_ids.shape[1]
        allowed = torch.ones(length, length, dtype=torch.bool, device=input_ids.device).tril()[None, None]
        if attention_mask is not None:
            allowed = allowed & attention_mask.bool()[:, None, None]
        hidden = self.wte(input_ids) + self.wpe.weight[:length]
        for block in self.h:
            hidden = block(hidden, allowed)
        logits = self.lm_head(self.ln_f(hidden))
        loss = None
        if labels is not None:
            loss = cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
        return CausalLMOutput(loss=loss, logits=logits)
