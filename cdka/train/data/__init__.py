"""A task's rows as tensors: splits, batches, and the objectives that turn logits into loss and answers."""
