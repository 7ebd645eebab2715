"""How it looks: the common style, pictures with boxes, the figures of each part."""
