"""Side-by-side measurements; the last line each script prints is one JSON document."""
