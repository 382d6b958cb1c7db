"""Streamlit pieces of the Sweeps room: the builder of plans, and the studies."""
