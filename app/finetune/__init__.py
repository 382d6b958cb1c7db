"""Parts of the Fine-tune room: the form, its preview, the feed of live runs, rows and curves."""
