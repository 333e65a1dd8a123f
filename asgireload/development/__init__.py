"""The parts of each process that only `--reload` needs, with the file watcher and the pages for the browser."""
