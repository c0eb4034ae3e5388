"""Configuration of a decoder that brings its own code, with the first Qwen's names; copied beside its weights."""

from typing import Any

from transformers import PreTrainedConfig


class QWenConfig(PreTrainedConfig):
    model_type = "qwen"

    def __init__(
        self, vocab_size: int = 80, hidden_size: int = 32, num_hidden_layers: int = 2, heads: int = 2, **others: Any
    ) -> None:
        self.vocab_size, self.hidden_size, self.heads = vocab_size, hidden_size, heads
        self.num_hidden_layers = num_hidden_layers
        super().__init__(**others)
