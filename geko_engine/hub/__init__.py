"""The Hugging Face Hub: access, downloads, and waiting for them."""
