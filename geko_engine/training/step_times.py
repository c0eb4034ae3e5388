"""How long steps take, as a line through those that were measured: a fixed part, and a part for each token. Pure."""

from __future__ import annotations

from dataclasses import dataclass

FEWEST = 20  # steps, before anything is estimated from them


@dataclass
class StepTimes:
    """Running means and squares over measured steps, JSON-ready, for a least-squares line through (tokens, seconds).

    Tokens are real ones. Only to be compared within one run, and only as good as the machine was quiet.
    """

    count: int = 0
    tokens: float = 0.0  # mean of a step
    seconds: float = 0.0  # mean of a step
    spread: float = 0.0  # sum of squared deviations of the tokens
    together: float = 0.0  # sum of the products of the deviations of tokens and seconds

    def add(self, tokens: int, seconds: float) -> None:
        """One more step."""
        self.count += 1
        apart = tokens - self.tokens
        self.tokens += apart / self.count
        self.seconds += (seconds - self.seconds) / self.count
        self.spread += apart * (tokens - self.tokens)
        self.together += apart * (seconds - self.seconds)

    def line(self) -> tuple[float, float]:
        """(seconds of a step beside its tokens, seconds of a token), neither below 0."""
        per_token = max(0.0, self.together / self.spread) if self.spread > 0 else 0.0
        fixed = self.seconds - per_token * self.tokens
        return (fixed, per_token) if fixed >= 0 else (0.0, self.seconds / self.tokens)

    def of_plain_training(self, taken: float, steps: float, tokens: float) -> float | None:
        """Seconds that plain training would have taken: those that were taken, and those of what was left out.

        An estimate; None while too few steps were measured.

        Args:
            taken: seconds of the steps that were done. steps, tokens: that plain training would have done beyond these.
        """
        if self.count < FEWEST:
            return None
        fixed, per_token = self.line()
        return max(0.0, taken + fixed * steps + per_token * tokens)
