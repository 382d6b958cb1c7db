"""Builds what ships in ``assets``: the catalogue, the embedded models and data, the example. Not in the wheel."""
