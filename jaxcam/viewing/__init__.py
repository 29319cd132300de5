"""Figures and the interactive report."""
