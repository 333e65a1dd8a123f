"""What several benchmarks need: servers, requests, CPU time and memory, results, tables and plots."""
