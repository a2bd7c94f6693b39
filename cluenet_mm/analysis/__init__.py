"""Counting and measuring models; what ``tools/analysis`` stands on."""
