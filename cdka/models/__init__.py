"""Models: their shapes as data (torch-free) and their loading (torch)."""
