"""Training: one pack of runs over one base model, its data as tensors, its models loaded. Every module needs torch."""
