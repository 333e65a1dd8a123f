"""What only `--reload` needs, in each process, and the watcher and pages that come with it."""
