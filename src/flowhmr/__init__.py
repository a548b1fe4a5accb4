"""flowhmr: human mesh recovery that learns from the motion in unannotated video."""

__version__ = "0.1.0"
