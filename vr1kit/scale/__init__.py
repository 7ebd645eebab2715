"""Real models: their sizes, what they need, where they run."""
