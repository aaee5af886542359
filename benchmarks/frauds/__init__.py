"""Planted frauds: detectors that only look robust, and honest ones that must not be suspected."""
