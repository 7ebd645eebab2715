"""How any text of a model is read as an answer: strictly, or as far as it can be. `vr1kit.completions` is the way in."""
