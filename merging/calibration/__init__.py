"""Calibration of a merge: prompts, row sets, teachers and target layers; needs no model."""
