"""From any detection set to curated instructions on disk, with a card; leaks and wrong boxes found before training."""
