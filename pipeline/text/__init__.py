"""What gives items meaning: a language model and the whitening of its vectors."""
