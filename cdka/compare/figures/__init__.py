"""Compare's figures: pure functions from a comparison to a Plotly figure. Plotly is imported when one is drawn."""
