"""Statistics of recorded attention: of a block, of regions, of a data set.

Definitions: docs/DIAGNOSE.md.
"""
