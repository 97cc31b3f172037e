"""The GPUs of this machine: which there are, and what else they do meanwhile."""
