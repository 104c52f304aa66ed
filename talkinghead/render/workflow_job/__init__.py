"""A job that brings its own workflow, as a GUI file or as an API graph."""
