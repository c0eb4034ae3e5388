"""GEKO inside the trainers of transformers and TRL. Knows no page."""
