"""Programs that measure time and memory; see README.md."""
