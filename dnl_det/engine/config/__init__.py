"""From a command line and its YAML files to a checked config.

Every error names file, key and value, and what is allowed.
"""
