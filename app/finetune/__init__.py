"""What the Fine-tune room is made of: the order form, its preview, the feed of live runs, rows and curves."""
