"""Fine-tuning: the specification of a run (torch-free) and the loop that carries it out."""
