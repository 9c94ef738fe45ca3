"""The same library inside other servers, for comparison; see `benchmarks.http_peers`."""
