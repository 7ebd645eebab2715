"""Annotations as the world keeps them: COCO, ODINW, VOC, YOLO, referring expressions, and the rest."""
