"""Documents drawn by a second renderer, with words and layouts of its own, to judge models trained on the first."""
