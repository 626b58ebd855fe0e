"""Measurements of this program's own speed; each prints its ratio from one run."""
