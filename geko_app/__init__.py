"""The web page of GEKO. Only its worker processes import torch."""
