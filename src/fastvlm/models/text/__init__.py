"""The text tower of contrastive pretraining."""
