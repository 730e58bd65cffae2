"""Renderers: values in, text out. Nothing here decides, measures, reads or writes."""
